"""What is asked of an answer that exists."""
