"""Static HTML: the report of a record, the comparison of several, the index of a folder."""
