"""How good the answers and maps of a store are, against what is known of its images."""
