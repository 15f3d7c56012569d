"""Reads, renders and compares records; talks to a server over HTTP or gRPC. Never imports torch."""
