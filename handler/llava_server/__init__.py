"""LLaVA with attention capture, no server: requests in, records out."""
