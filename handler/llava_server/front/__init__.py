"""A front end's words: rows and headers in, bodies and log lines out, duty and signs of life."""
