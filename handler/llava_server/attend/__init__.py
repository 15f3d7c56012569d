"""Queries and key cache of a run to attention rows, and rows to views."""
