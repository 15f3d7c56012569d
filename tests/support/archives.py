"""Record files taken apart, changed and packed again, and the reason for which they are refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llava_wire import Record, RecordError, decode, encode
from support.synthetic import make_record

Members = dict[str, bytes]


def small(**changes: Any) -> Record:
    """A record of a few kilobytes: two words, two views, no picture."""
    settings: dict[str, Any] = {"words": ("A", " red"), "reductions": ("layers_heads",), "pairs": [(0, 1), (1, 2)]}
    return make_record(**{**settings, "with_picture": False, **changes})


def members_of(data: bytes) -> Members:
    """The members of a record file, in order."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Members) -> bytes:
    """A sound zip of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_json(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A small record whose record.json was changed; everything else is sound."""
    members = members_of(encode(small()))
    document = json.loads(members["record.json"])
    change(document)
    return packed({**members, "record.json": json.dumps(document).encode()})


def npy(array: np.ndarray, **options: Any) -> bytes:
    """An array as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def reason_of(data: bytes) -> str:
    """The reason for which `decode` refuses these bytes; the message must say what is allowed."""
    with pytest.raises(RecordError) as caught:
        decode(data)
    assert "got" in str(caught.value)
    assert "expected" in str(caught.value) or "disagree" in str(caught.value)
    return caught.value.reason
