"""What an index found in each record, kept beside the page so that the next index reads only what changed.

Flow: folder -> `read_cache` -> `Entry` by file name -> `write_cache`. A cache of another version, or one that is
damaged, counts as none: it is never trusted for more than text and a thumbnail, which the page escapes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llava_viewer.files import written
from llava_viewer.version import package_version

CACHE_NAME = "index.cache.json"
THUMB_KIND = "image/webp"
_LAYOUT = 2
_MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class Entry:
    """What an index shows of one record.

    Args:
        others: how many further answers the same request has, and which, or "".
        stamp: size and time of the file that it was read from.
        thumb: a data URI; thumb_label: what it shows.
        picture: the same for records on one picture and grid, which can be compared.
        share, tokens: numbers for sorting; the rest is text as shown.
    """

    stamp: str
    thumb: str
    thumb_label: str
    prompt: str
    answer: str
    others: str
    model: str
    view: str
    picture: str
    date: str
    transport: str
    tokens: str
    tokens_text: str
    share: str
    share_text: str


def read_cache(folder: Path) -> dict[str, Entry]:
    """The entries of the last index by file name, or none."""
    path = folder / CACHE_NAME
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        found = json.loads(path.read_bytes())
        if found["layout"] != [_LAYOUT, package_version()]:
            return {}
        return {name: _entry(values) for name, values in found["entries"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def write_cache(folder: Path, entries: dict[str, Entry]) -> None:
    """Keeps the entries for the next index."""
    found = {
        "layout": [_LAYOUT, package_version()],
        "entries": {name: asdict(entry) for name, entry in entries.items()},
    }
    with written(folder / CACHE_NAME) as partial:
        partial.write_text(json.dumps(found), encoding="utf-8")


def _entry(values: dict[str, str]) -> Entry:
    """Raises ValueError unless every field is a text and the thumbnail a picture of our kind."""
    entry = Entry(**values)
    if not all(type(getattr(entry, field.name)) is str for field in fields(Entry)):
        raise ValueError("a field that is no text")
    if not entry.thumb.startswith(f"data:{THUMB_KIND};base64,"):
        raise ValueError("a thumbnail of another kind")
    float(entry.share), int(entry.tokens)
    return entry
