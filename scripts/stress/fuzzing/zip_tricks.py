"""Zip files that are not what their directory says.

Flow: a sound zip -> one of `TRICKS` -> its bytes, changed.
"""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable

_CENTRAL, _LOCAL, _END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def _duplicate(rng: random.Random, data: bytes) -> bytes:
    """A member twice."""
    buffer = io.BytesIO(data)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(zipfile.ZipInfo(rng.choice(("record.json", "views/0/maps.npy"))), b"{}")
    return buffer.getvalue()


def _overlap(rng: random.Random, data: bytes) -> bytes:
    """Members that all begin where the first one does."""
    made, at = bytearray(data), 0
    while (at := made.find(_CENTRAL, at)) >= 0:
        made[at + 42 : at + 46] = bytes(4)
        at += 46
    return bytes(made)


def _many(rng: random.Random, data: bytes) -> bytes:
    """A directory of up to hundreds of thousands of entries, all of one empty member."""
    count = rng.choice((1001, 30_000, 400_000))
    local = _LOCAL + struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    entry = _CENTRAL + struct.pack("<HHHHHHLLLHHHHHLL", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = _END + struct.pack("<HHHHLLH", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), len(local), 0)
    return local + entry * count + end


def _sizes(rng: random.Random, data: bytes) -> bytes:
    """Sizes that the directory makes up."""
    made = bytearray(data)
    at = made.rfind(_CENTRAL, 0, rng.randrange(len(made) // 2, len(made)))
    place = max(at, 0) + rng.choice((20, 24))
    made[place : place + 4] = struct.pack("<L", rng.choice((0, 1, 2**31, 2**32 - 2, 2**32 - 1)))
    return bytes(made)


def _end_record(rng: random.Random, data: bytes) -> bytes:
    """Nonsense in the record that says where the directory is."""
    made = bytearray(data)
    place = made.rfind(_END) + rng.choice((8, 10, 12, 16))
    made[place : place + 4] = struct.pack("<L", rng.choice((0, 1, 2**31, 2**32 - 1)))
    return bytes(made)


def _wide(rng: random.Random, data: bytes) -> bytes:
    """A zip64 directory of absurd size."""
    at = data.rfind(_END)
    directory, offset = struct.unpack_from("<LL", data, at + 12)
    size = rng.choice((directory, 2**40, 2**63))
    wide = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 9, 9, size, offset)
    return data[:at] + wide + b"PK\x06\x07" + struct.pack("<LQL", 0, at, 1) + data[at:]


def _prefix(rng: random.Random, data: bytes) -> bytes:
    """Something before the zip, or after it."""
    return rng.choice((_LOCAL + bytes(500) + data, data + bytes(400), data + _END + bytes(18), data + data))


def _method(rng: random.Random, data: bytes) -> bytes:
    """A member's compression, changed in both places."""
    made = bytearray(data)
    value = rng.choice((1, 9, 12, 14, 93, 99))
    for signature, offset in ((_LOCAL, 8), (_CENTRAL, 10)):
        at = made.find(signature) + offset
        made[at : at + 2] = struct.pack("<H", value)
    return bytes(made)


def _names(rng: random.Random, data: bytes) -> bytes:
    """Members with names that lead out of a folder, or steer a terminal."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in ("../../evil", "/etc/x", "\x1b[2J", "\u202e", "a" * 60_000, "views/0/../0/maps.npy"):
            archive.writestr(zipfile.ZipInfo(name), b"x")
    return buffer.getvalue()


TRICKS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _duplicate, _overlap, _many, _sizes, _end_record, _wide, _prefix, _method, _names,
)  # fmt: skip
