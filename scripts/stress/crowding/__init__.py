"""Crowds and heavy requests, made lightly: what drills, soak and fuzz press a server with.

Flow: `bodies` (bytes made once) -> `loads` (who sends which of them, and how many) -> `sockets` and `calls` (many
connections at once, in a process of their own: `python -m stress.crowding`) -> `replies` (one word for each).
"""
