"""Whether the maps of a loaded model are right."""
