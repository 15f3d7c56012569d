"""The front of a server: the only process that listens where strangers reach; TorchServe stands behind it.

Flow: `servekit.watch.keeper` starts this package with `settings` -> `web` (HTTP) and `calls` (gRPC) check key, size and
shape of each request (`access`, `room`, `shape`) -> TorchServe (`upstream`) -> the reply; `health` asks the workers.
"""
