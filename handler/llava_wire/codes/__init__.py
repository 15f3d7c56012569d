"""Maps as codes of one byte, and back."""
