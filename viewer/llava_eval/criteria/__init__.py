"""Criteria for heads; each module has a `DECLARATION` and the class that it names."""
