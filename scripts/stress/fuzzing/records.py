"""Crafted record files, made from a seed: small files that ask a reader for much, or for nonsense.

Flow: number -> a family of damage (`FAMILIES`, by turns) and a random source -> members of a sound record, changed ->
bytes. The same seed and number always give the same file; some are sound on purpose, and must be read.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stress.fuzzing import zip_tricks
from stress.fuzzing.large_records import (
    Members,
    alternatives,
    bombs,
    counts,
    document_of,
    grids,
    grids_of,
    npy,
    packed,
    picture_sizes,
    pictures,
    put,
    quantities,
)

Damage = Callable[[random.Random, Members], bytes | None]
"""Changes the members in place, or gives the whole file."""
_NUMBERS: tuple[object, ...] = (
    0, -1, 2, 2**31, 2**31 - 1, 2**53, 2**63, 2**64, 10**20, 10**200, 10**4000, -(10**30), 0.5, -0.0, 1e-308, 1e308,
    -1e308, True, None, "1", [], {},
)  # fmt: skip
_TEXTS = (
    "", "\0", "\x1b[2J\x1b]0;x\x07", "\u202eevil\u2066", "\u200b" * 3000, "\u200d" * 3000, "\ufe0f" * 2000,
    "e\u0301" * 2000, "\ud800", "A" * 5000, "A" * 300_000, "\U0001f469\u200d\U0001f52c" * 900, "\x9b31m",
    "</script><script>alert(1)</script>", "{{7*7}}", "\r\n\r\n", "\u2028\u2029", "\ufffe\uffff", "../../x", "-rf",
    "a\nb" * 500, "\u4e2d" * 4000, "".join(map(chr, range(0x4E00, 0x5E00))), "\u0605" * 400, "a b " * 60_000,
)  # fmt: skip
_PLACES = (
    ("grids", 0, "rows"), ("grids", 0, "image"), ("grids", 0, "positions", 0, 0), ("grids", 0, "positions", 0, 1),
    ("grids", 0, "patch_px"), ("images", 0, "width_px"), ("grids", 0, "steps", 1, "left_px"),
    ("tokens", 0, "id"), ("tokens", 1, "logprob"), ("tokens", 0, "top", 0, "logprob"), ("queries", 0, "token"),
    ("queries", 1, "position"), ("queries", 1, "step"), ("prompt", "image_start"), ("prompt", "image_count"),
    ("image", "width_px"), ("image", "height_px"), ("model", "layers"), ("model", "heads"), ("geometry", "patch_px"),
    ("geometry", "rows"), ("geometry", "cols"), ("geometry", "steps", 0, "width_px"), ("version",),
    ("prompt", "ids", 0),    ("geometry", "steps", 1, "left_px"), ("views", 0, "layers", 0), ("views", 0, "heads", 0),
    ("views", 0, "error_bound"),
)  # fmt: skip
_TEXT_PLACES = (
    ("answer",), ("grids", 0, "name"), ("images", 0, "sha256"), ("views", 0, "quantity", "name"),
    ("views", 0, "method", "name"), ("annotations", "expected"),
    ("prompt", "text"), ("prompt", "rendered"), ("tokens", 0, "text"), ("tokens", 0, "piece"),
    ("tokens", 1, "top", 0, "text"), ("model", "name"), ("model", "revision"), ("model", "device"),
    ("views", 0, "name"), ("views", 0, "head_set"), ("image", "sha256"), ("prompt", "pieces", 0), ("finish_reason",),
    ("views", 0, "encoding"), ("format",),
)  # fmt: skip


@dataclass(frozen=True)
class Crafted:
    """One file: its number, the families that changed it, its bytes."""

    number: int
    families: tuple[str, ...]
    data: bytes

    @property
    def name(self) -> str:
        """ "017-numbers.npz"."""
        return f"{self.number:03}-{'+'.join(self.families)}.npz"


class Maker:
    """Makes files.

    Args:
        seed: of all of them.
        sound: a sound record with two views or more, which the damage starts from.
        heavy: also families whose files take a second or 100 MB to make.
    """

    def __init__(self, seed: int, sound: bytes, *, heavy: bool = True) -> None:
        self._seed, self._sound = seed, sound
        self._names = [name for name in FAMILIES if heavy or name not in HEAVY]

    def file(self, number: int) -> Crafted:
        """The file of this number; every fifth is changed by two families."""
        rng = random.Random(f"{self._seed} {number}")
        first = self._names[number % len(self._names)]
        with zipfile.ZipFile(io.BytesIO(self._sound)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        families = (rng.choice(_JSON_FAMILIES), first) if number % 5 == 4 and first != "sound" else (first,)
        whole: bytes | None = None
        for name in families:
            whole = FAMILIES[name](rng, members) or whole
        return Crafted(number, families, packed(members) if whole is None else whole)


def _numbers(rng: random.Random, members: Members) -> None:
    document = document_of(members)
    for _ in range(rng.randint(1, 2)):
        _set(document, rng.choice(_PLACES), rng.choice(_NUMBERS))
    put(members, document)


def _texts(rng: random.Random, members: Members) -> None:
    document = document_of(members)
    for _ in range(rng.randint(1, 3)):
        _set(document, rng.choice(_TEXT_PLACES), rng.choice(_TEXTS))
    put(members, document)


def _set(document: Any, place: tuple[str | int, ...], value: object) -> None:
    """Sets a value where the place is still there."""
    try:
        for step in place[:-1]:
            document = document[step]
        document[place[-1]] = value
    except (LookupError, TypeError):
        return


def _nesting(rng: random.Random, members: Members) -> None:
    depth = rng.choice((9, 30, 400, 950, 3000, 200_000))
    inner = rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
    kind = rng.randrange(3)
    if kind == 0:
        members["run.json"] = b'{"deep":' + inner + b"}"
        return
    name = b'"sampling": {"deep": ' if kind == 1 else b'"checks": {"x": {"deep": '
    rest = members["record.json"].removeprefix(b"{").replace(b'"sampling"', b'"s"').replace(b'"checks"', b'"c"')
    members["record.json"] = b"{" + name + inner + b"}" * kind + b"," + rest


def _types(rng: random.Random, members: Members) -> None:
    """Another JSON type somewhere, or a key gone."""
    document = document_of(members)
    where: Any = document
    for _ in range(rng.randint(0, 3)):
        inside = list(where.values()) if isinstance(where, dict) else where[:5]
        deeper = [one for one in inside if isinstance(one, dict | list) and one]
        if not deeper:
            break
        where = rng.choice(deeper)
    key = rng.choice(list(where)) if isinstance(where, dict) else rng.randrange(len(where))
    if isinstance(where, dict) and rng.random() < 0.3:
        del where[key]
    else:
        where[key] = rng.choice((None, True, 7, 0.5, "x", [], {}, [[1]], {"a": 1}))
    put(members, document)


def _json_bytes(rng: random.Random, members: Members) -> None:
    name = rng.choice(("record.json", "run.json"))
    data = members.get(name, b"{}")
    members[name] = rng.choice(
        (b"", b"\xff\xfe{}", b"\xef\xbb\xbf" + data, data[:-1], b"null", b'{"a": NaN}', b'{"a": 1e999}', b"9" * 5000,
         data + data, data.replace(b'"', b"'"), b'{"a": ' + b"9" * 4000 + b"}", data.replace(b":", b":-", 1))
    )  # fmt: skip


def _duplicates(rng: random.Random, members: Members) -> None:
    document, kind = document_of(members), rng.randrange(6)
    if kind == 0:
        document["queries"][1] = document["queries"][0]
    elif kind == 1:
        document["views"][1]["name"] = document["views"][0]["name"]
    elif kind == 2:
        document["views"][0]["heads"] = [0] * len(document["views"][0]["heads"])
    elif kind == 3:
        document["queries"].reverse()
    elif kind == 4:
        document["queries"] = []
    else:
        members["record.json"] = b'{"tokens":[],' + members["record.json"][1:]
        return
    put(members, document)


def _geometry(rng: random.Random, members: Members) -> None:
    """Steps of large numbers: their exact quotients grow with every step."""
    document = document_of(members)
    large = rng.choice((10**6, 2**27, 2**31, 10**30, 10**290))
    grids_of(document)[0]["steps"] = [
        {"op": rng.choice(("resize", "crop", "pad")), "width_px": large - i, "height_px": large - 2 * i, "left_px": i,
         "top_px": -i}
        for i in range(rng.choice((3, 100, 101, 5000)))
    ]  # fmt: skip
    put(members, document)


def _headers(rng: random.Random, members: Members) -> None:
    name = rng.choice([name for name in members if name.startswith("views/")])
    data = members[name]
    header = rng.choice(
        (
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 4000 + ",)}",
            "{'descr': [('a', '<f4', (1000, 1000))], 'fortran_order': False, 'shape': (10,), }", "[" * 5000,
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", "__import__('os')",
            "{'descr': '<U999999999', 'fortran_order': False, 'shape': (), }", "{'descr': '<f4', 'fortran_order': 1}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        )
    )  # fmt: skip
    text = header.encode() + b"\n"
    members[name] = rng.choice(
        (
            b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[-64:],
            b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + text, b"\x93NUMPY\x09\x00" + data[8:], data[:20],
            b"\x93NUMPY\x01\x00\xff\xff" + data[10:],
        )
    )  # fmt: skip


def _values(rng: random.Random, members: Members) -> None:
    """Arrays of the right shape with numbers that no attention gives."""
    kept = [name for name in members if name.endswith(("/scales.npy", "/shares.npy"))]
    name = rng.choice(kept)
    array = np.load(io.BytesIO(members[name])).copy()
    array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 3e38, -1.0, 2.0, 1e-40))
    members[name] = npy(array)


def _plain(rng: random.Random, members: Members) -> None:
    """The run block and other parts that have no shape of their own."""
    document, kind = document_of(members), rng.randrange(5)
    if kind == 0:
        members["run.json"] = json.dumps({f"k{i}": "v" * 40 for i in range(rng.choice((100, 5000)))}).encode()
    elif kind == 1:
        members["run.json"] = json.dumps({"finished_at": rng.choice(_TEXTS[:8]), "\u202e" * 50: [1] * 500}).encode()
    elif kind == 2:
        document["software"] = {f"p{i}": "1" for i in range(9000)}
    elif kind == 3:
        document["sampling"] = {"score": 1e308, "sequence": 10**15, "sequences": [], "greedy": {}}
    else:
        document["checks"] = {"self_test": {"result": [1] * 50, "row_error": 1e308}}
    put(members, document)


def _flips(rng: random.Random, members: Members) -> bytes:
    data = bytearray(packed(members))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.4:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


def _zip(rng: random.Random, members: Members) -> bytes:
    return rng.choice(zip_tricks.TRICKS)(rng, packed(members))


def _sound(rng: random.Random, members: Members) -> None:
    """Nothing wrong: must be read."""


FAMILIES: dict[str, Damage] = {
    "numbers": _numbers, "texts": _texts, "counts": counts, "bombs": bombs, "nesting": _nesting, "types": _types,
    "json": _json_bytes, "duplicates": _duplicates, "picture-sizes": picture_sizes, "geometry": _geometry,
    "headers": _headers, "grids": grids, "quantities": quantities,
    "values": _values, "pictures": pictures, "plain": _plain, "alternatives": alternatives,
    "flips": _flips, "zip": _zip, "sound": _sound,
}  # fmt: skip
"""Every kind of damage by its name."""
_JSON_FAMILIES = ("numbers", "texts", "duplicates", "plain")
HEAVY = frozenset({"bombs", "pictures", "counts", "alternatives", "picture-sizes"})
"""Families whose files may take a second or 100 MB to make or to read."""
