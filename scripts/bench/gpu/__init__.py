"""For minutes of a GPU: what is measured on a machine that may be gone soon, and how it is kept.

Flow: `schedule` -> `probe` (of `probe_parts`) and `answers`, one process each -> `findings`, a line each.
"""
