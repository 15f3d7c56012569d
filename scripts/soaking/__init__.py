"""An hour under fire: what the soak sends, how it judges each answer, what it does to the server meanwhile.

Flow: `cases` (requests, with the engine's own answers as the truth) -> `senders` (ways to the server, unfriendly ones
included) -> `ledger` (outcomes) while `trouble` kills workers and `watch` samples memory -> one JSON document.
"""
