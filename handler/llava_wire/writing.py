"""A record as one file: a zip that `numpy.load(allow_pickle=False)` opens.

Flow: `Record` -> `encode` -> bytes. Members, in this order: record.json, patch_rects.npy, views/<i>/maps.npy,
scales.npy, of blocks places.npy and largest.npy, shares.npy and separators.npy, or parts.npy, the optional
texts/<i>.npy, the optional alternatives/<i>.npz (records again), the optional picture, the optional pictures/<i> (of
several pictures all but the first), the optional run.json.
Dates, order and compression level are fixed, so the same record gives the same bytes. `container` reads them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import numpy as np

from llava_wire.plain import to_plain
from llava_wire.record import Record
from llava_wire.schema import FORMAT, SEPARATORS, SHARE_NAMES, TOKEN_FIGURES, VERSION, Token

COMPRESSION_LEVEL = 6
PICTURE_NAME = re.compile(r"picture\.(png|jpg)")
FURTHER_PICTURE = re.compile(r"pictures/([1-9][0-9]?)\.(png|jpg)")
_DATE = (1980, 1, 1, 0, 0, 0)


def document(record: Record) -> dict[str, Any]:
    """What record.json says, as plain JSON values."""
    facts = _without_empty(to_plain(record.facts), ("checks", "notes", "annotations"))
    facts["tokens"] = [_without_empty(token, TOKEN_FIGURES) for token in facts["tokens"]]
    facts["prompt"] = _without_empty(facts["prompt"], ("texts", "system", "turns", SEPARATORS))
    if "annotations" in facts:
        facts["annotations"] = _without_empty(facts["annotations"], tuple(facts["annotations"]))
    return {
        "format": FORMAT,
        "version": VERSION,
        **facts,
        "shares": list(SHARE_NAMES),
        "views": [
            _without_empty(to_plain(view.facts), ("parts", "block_error_bound")) for view in record.views.values()
        ],
        **({"texts": [to_plain(view.facts) for view in record.texts.values()]} if record.texts else {}),
    }


def token_document(token: Token) -> dict[str, Any]:
    """One token as record.json says it, as plain JSON values."""
    return _without_empty(to_plain(token), TOKEN_FIGURES)


def encode(record: Record) -> bytes:
    """One run as bytes; deterministic. An empty `run` block is left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, "record.json", _json_bytes(document(record)))
        _add(archive, "patch_rects.npy", _npy_bytes(record.patch_rects()))
        for index, view in enumerate(record.views.values()):
            _add(archive, f"views/{index}/maps.npy", _npy_bytes(view.stored))
            _add(archive, f"views/{index}/scales.npy", _npy_bytes(view.scales))
            if view.kept is not None:
                _add(archive, f"views/{index}/places.npy", _npy_bytes(view.kept.places))
                _add(archive, f"views/{index}/largest.npy", _npy_bytes(view.kept.values))
            if view.shares is not None:
                _add(archive, f"views/{index}/shares.npy", _npy_bytes(view.shares))
            if view.separators is not None:
                _add(archive, f"views/{index}/separators.npy", _npy_bytes(view.separators))
            if view.parts is not None:
                _add(archive, f"views/{index}/parts.npy", _npy_bytes(view.parts))
        for index, text in enumerate(record.texts.values()):
            _add(archive, f"texts/{index}.npy", _npy_bytes(text.values))
        for index, other in enumerate(record.alternatives, start=1):
            if other.alternatives or other.pictures or other.run:
                raise ValueError(
                    f"alternatives[{index - 1}]: got one with alternatives, picture or run, expected neither"
                )
            _add(archive, f"alternatives/{index}.npz", encode(other), compress=False)
        for name, data in _pictures(record):
            _add(archive, name, data, compress=False)
        if record.run:
            _add(archive, "run.json", _json_bytes(record.run))
    return buffer.getvalue()


def _pictures(record: Record) -> tuple[tuple[str, bytes], ...]:
    """The pictures that the record carries, their names and number checked."""
    if record.pictures and len(record.pictures) != len(record.facts.images):
        raise ValueError(
            f"pictures: got {len(record.pictures)} in a record of {len(record.facts.images)}, expected all or none"
        )
    for i, (name, _) in enumerate(record.pictures):
        if i == 0 and not PICTURE_NAME.fullmatch(name):
            raise ValueError(f"picture: got the name {name!r}, expected picture.png or picture.jpg")
        if i and not ((found := FURTHER_PICTURE.fullmatch(name)) and int(found[1]) == i):
            raise ValueError(f"pictures: got the name {name!r}, expected pictures/{i}.png or pictures/{i}.jpg")
    return record.pictures


def _without_empty(plain: dict[str, Any], optional: tuple[str, ...]) -> dict[str, Any]:
    """Optional keys are absent where they say nothing; false says something."""
    return {key: value for key, value in plain.items() if key not in optional or value not in (None, "", [], {})}


def _json_bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array) if array.ndim else array, allow_pickle=False)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes, *, compress: bool = True) -> None:
    info = zipfile.ZipInfo(name, date_time=_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    archive.writestr(info, data, compresslevel=COMPRESSION_LEVEL if compress else None)
