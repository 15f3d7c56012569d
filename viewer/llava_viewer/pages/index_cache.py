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
from llava_wire.container import read_file
from llava_wire.untrusted.bounded_json import read_object

CACHE_NAME = "index.cache.json"
THUMB_KIND = "image/webp"
_LAYOUT = 5
_ENTRY_BYTES, _ENTRY_VALUES = 256 << 10, 5000
"""More than an entry ever takes; a cache that is larger for its folder is none of ours."""


@dataclass(frozen=True)
class Entry:
    """What an index shows of one record.

    Args:
        others: how many further answers the same request has, and which, or "".
        stamp: size and time of the file that it was read from.
        thumb: a data URI; thumb_label: what it shows.
        picture: the same for records on one picture and grid, which can be compared.
        verdict: "right", "wrong" or "", as a client judged the answer; expected: what was, "" of right ones.
        needs: what became of words with the image hidden, or "".
        tags: the client's, one a line.
        share, tokens, needing: numbers for sorting, `needing` "" where it was not tested; the rest is text as shown.
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
    verdict: str
    expected: str
    needs: str
    needing: str
    tags: str


def read_cache(folder: Path, records: int) -> dict[str, Entry]:
    """The entries of the last index by file name, or none.

    Args:
        records: how many records there are now; a stranger's cache takes no more than theirs would.
    """
    path = folder / CACHE_NAME
    try:
        data = read_file(path, (records + 1) * _ENTRY_BYTES)
        found = read_object(data, CACHE_NAME, (records + 1) * _ENTRY_VALUES)
        if found["layout"] != [_LAYOUT, package_version()]:
            return {}
        return {name: _entry(values) for name, values in found["entries"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError):
        return {}


def write_cache(folder: Path, entries: dict[str, Entry]) -> None:
    """Keeps the entries for the next index."""
    found = {
        "layout": [_LAYOUT, package_version()],
        "entries": {name: asdict(entry) for name, entry in entries.items()},
    }
    with written(folder / CACHE_NAME, through_links=False) as partial:
        partial.write_text(json.dumps(found), encoding="utf-8")


def _entry(values: dict[str, str]) -> Entry:
    """Raises ValueError unless every field is a text and the thumbnail a picture of our kind."""
    entry = Entry(**values)
    if not all(type(getattr(entry, field.name)) is str for field in fields(Entry)):
        raise ValueError("a field that is no text")
    if not entry.thumb.startswith(f"data:{THUMB_KIND};base64,"):
        raise ValueError("a thumbnail of another kind")
    if not 0 <= float(entry.share) <= 1 or not int(entry.tokens[:20]) >= 0 or not int(entry.needing[:20] or 0) >= 0:
        raise ValueError("a number out of range")
    return entry
