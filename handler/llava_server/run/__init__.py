"""Prepared requests to finished runs: batches, decoding, replay, search."""
