"""A folder of images: every image file in it and below."""

from __future__ import annotations

from pathlib import Path

from llava_doors.door import Declaration
from llava_viewer.data.kind import NO, YES, Asked, Data, Entry

DECLARATION = Declaration("folder", "A folder of images.", "llava_viewer.data.kinds.folder:Folder")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif"})
"""The endings of image files."""


class Folder:
    """See `llava_viewer.data.kind.Kind`."""

    def fits(self, path: Path) -> int:
        """A folder with an image."""
        return YES if path.is_dir() and any(one.suffix.lower() in IMAGES for one in path.rglob("*")) else NO

    def read(self, asked: Asked) -> Data:
        """In the order of their names."""
        path = asked.path
        found = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.suffix.lower() in IMAGES)
        return Data("a folder of images", asked.images or path, (Entry(name, name) for name in found))
