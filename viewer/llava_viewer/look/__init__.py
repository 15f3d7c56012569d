"""What all pages and figures share, one rule each: words, colours, maps on a picture, rows, views."""
