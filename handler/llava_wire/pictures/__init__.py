"""What a picture file is, and the one rule for its pixels."""
