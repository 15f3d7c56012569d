"""The kinds of data of this house, a file each."""
