"""Twenty thousand strangers: hostile requests made from a seed, sent as raw bytes, and every reply judged.

Flow: `shots` (with `pictures` and `values`) -> `senders` -> `judge` -> counts by way in and outcome. Crafted
record files for the viewer come from `records` (with `large_records` and `zip_tricks`).
"""
