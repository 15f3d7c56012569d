"""What several families or methods are made of; torch only inside functions."""
