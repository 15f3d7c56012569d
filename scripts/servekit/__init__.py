"""What the scripts around TorchServe share: paths, ports, Java, checks before a start, starting, waiting, stopping.

Flow: names -> `paths` -> `preflight` (java, ports, archive, weights, devices) -> `start_server` -> `ServerState`.
"""
