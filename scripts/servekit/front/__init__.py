"""The front of a server: the only process that listens where strangers reach; TorchServe stands behind it.

Flow: `keeper` starts `python -m servekit.front` with `settings` -> `web` (HTTP) and `calls` (gRPC) check key, size and
shape of each request (`access`, `room`, `shape`) -> TorchServe (`upstream`) -> the reply; `health` asks the workers.
"""
