"""A kind of data of somebody else: a .pack file, one line of JSON about the images whose bytes follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.kind import HOLDS, NO, YES, Asked, Data, Entry, inside

DECLARATION = Declaration("pack", "A pack (.pack).", "support.toy_data:Pack", traits={HOLDS: (".pack",)})


def pack_of(path: Path, images: list[bytes]) -> Path:
    """A pack of images."""
    about = [{"name": f"{n}.png", "size": len(image), "question": f"What is in {n}?"} for n, image in enumerate(images)]
    path.write_bytes(json.dumps(about).encode("ascii") + b"\n" + b"".join(images))
    return path


class Pack:
    """See `llava_viewer.data.kind.Kind` and `Holder`."""

    def fits(self, path: Path) -> int:
        """By its ending."""
        return YES if path.suffix == ".pack" else NO

    def read(self, asked: Asked) -> Data:
        """An entry an image."""
        about, at = _about(asked.path)
        entries = []
        for n, one in enumerate(about):
            place = inside(asked.path.name, f"{one['size']} {one['name']}", at)
            entries.append(Entry(f"{asked.path.name} image {n}", place, n, one["question"]))
            at += one["size"]
        return Data("a pack", asked.path.parent, iter(entries))

    def image(self, file: Path, member: str, number: int) -> bytes:
        """As many bytes as its name says, from its place on."""
        return file.read_bytes()[number : number + int(member.split()[0])]


def _about(path: Path) -> tuple[list[dict[str, Any]], int]:
    line = path.read_bytes().partition(b"\n")[0]
    return json.loads(line), len(line) + 1
