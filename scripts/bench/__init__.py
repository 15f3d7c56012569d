"""Benchmarks, one module each, run as `python -m bench.serving`; `all` runs them, `table` renders docs/benchmarks.

Flow: a driver -> `parts` (what they share) -> docs/benchmarks/*.json -> `table`. `gpu` is for minutes of a GPU.
"""
