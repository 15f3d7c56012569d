"""What several families are made of; torch only inside functions."""
