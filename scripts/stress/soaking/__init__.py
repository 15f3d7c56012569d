"""What the soak sends, how it judges each answer, what it does to the server meanwhile.

Flow: `cases` (requests, with the engine's own answers as the truth) -> `senders` (ways to the server, unfriendly ones
included) -> `ledger` (outcomes) while `watch` kills workers and `memory` samples what they hold -> one JSON document.
"""
