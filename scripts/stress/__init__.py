"""A server under stress, one program each, run as `python -m stress.soak`: soak, fuzz, fuzz_records, drill.

Flow: a program -> `soaking`, `fuzzing`, `drills` (its parts) -> `crowding` (the loads that they share) -> figures.
"""
