"""What a request and a model's settings say, checked and planned; no torch."""
