"""Faults on purpose: what clients see of each, and how long the server needs to be itself again.

Flow: `scene` (a server, clients that ask without a pause) -> `faults` (one function each) -> `Row`s -> `table`.
"""
