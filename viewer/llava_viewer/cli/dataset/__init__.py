"""The commands of dataset runs."""
