"""What checks of an answer found, as records hold it."""
