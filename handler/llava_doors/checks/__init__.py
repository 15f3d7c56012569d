"""Checks of an answer; each module has a `DECLARATION` and the class that it names."""
