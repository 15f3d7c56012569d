"""Data of every kind for tests: small images, tars of samples, and what is found in them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava_viewer.data.images import image_bytes
from llava_viewer.data.items import Item, check_images, items_of
from llava_viewer.data.reading import read_data
from support.synthetic import make_picture


def png(seed: int) -> bytes:
    """A small image's file."""
    file = io.BytesIO()
    make_picture(64, 48, seed=seed).save(file, "PNG")
    return file.getvalue()


def tar_of(path: Path, members: Mapping[str, bytes | str | dict[str, Any]], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of members in their order; objects become JSON."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            text = json.dumps(content) if isinstance(content, dict) else content
            data = text.encode("utf-8") if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(n: int, **columns: Any) -> dict[str, bytes | str | dict[str, Any]]:
    """The members of a sample."""
    asked = {"prompt": f"What is in {n}?", "answer": "a red circle", **columns}
    return {f"{n:06}.json": asked, f"{n:06}.png": png(n)}


def found(path: Path, *prompts: str, **columns: str) -> tuple[list[Item], list[bytes]]:
    """The items of data, and the images that they name."""
    data = read_data(path, columns)
    items = items_of(data.entries, prompts)
    check_images(items, data.images)
    return items, [image_bytes(data.images, item.image) for item in items]
