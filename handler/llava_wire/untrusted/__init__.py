"""A stranger's record: how much of everything, checked before it costs."""
