"""Many records in few files: parts of unchanged records, one table of what they say, and any one of them at once."""

from llava_viewer.store.store import Store, StoreError

__all__ = ["Store", "StoreError"]
