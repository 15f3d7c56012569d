"""A finished run to a record, whole or in parts."""
