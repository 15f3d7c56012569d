"""Runs over many images, beside the same work without them."""
