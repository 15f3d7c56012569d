"""A record's file read back, a stranger's too: every size is checked before anything is inflated or parsed.

Flow: bytes -> zip directory -> record.json, geometry, arrays, alternatives -> `Record`, or one `RecordError`. What the
members are is in `writing`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from llava_wire.errors import RecordError
from llava_wire.geometry import Geometry
from llava_wire.quantize import DTYPES, READABLE
from llava_wire.question import QuestionLimits, json_values, trimmed
from llava_wire.record import Record, View
from llava_wire.schema import FORMAT, SHARE_NAMES, TOLERANCE, VERSION, Facts, ViewFacts, check_facts, from_plain
from llava_wire.writing import PICTURE_NAME

MAX_FILE_BYTES = 1 << 30
"""The largest record file that `decode` opens."""
MAX_INFLATED_BYTES = 4 << 30
"""The largest sum of inflated members; checked against the zip directory before anything is inflated, and while."""
MAX_JSON_BYTES = 64 << 20
"""The largest record.json or run.json; parsed JSON takes many times its size in memory."""
MAX_MEMBERS = 1000
MAX_ALTERNATIVES = 64
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What zipfile raises for damaged data; NotImplementedError and RuntimeError stand for flags it does not read.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error,
)  # fmt: skip
_ALTERNATIVE = re.compile(r"alternatives/[1-9][0-9]*\.npz")
_AXES = [
    (*query, *selection, "row", "col")
    for query in ((), ("query",))
    for selection in ((), ("layer",), ("head",), ("layer", "head"), ("layer_head",))
]
Members = dict[str, zipfile.ZipInfo]
Picture = tuple[str, bytes]
"""A picture's member name and file."""


def decode(data: bytes) -> Record:
    """Reads a record back.

    Raises:
        RecordError: "not_a_record", "truncated", "too_large", "unsupported_version" or "invalid".
    """
    return _decode(data, MAX_INFLATED_BYTES, nested=False)


def decode_question(data: bytes, limits: QuestionLimits) -> tuple[Facts, Picture | None]:
    """Reads what a replay needs of a record: its facts without rows, and the picture when it carries one.

    Views, geometry and alternatives are not inflated, so that a stranger's record costs no more than these two.

    Raises:
        RecordError: as `decode`.
    """
    with _opened(data) as (archive, members):
        plain = _json_object(archive, members["record.json"], limits.json_bytes, limits.json_values)
        return _facts(trimmed(plain, limits)), _picture(archive, members, limits.picture_bytes)


def _decode(data: bytes, budget_bytes: int, *, nested: bool) -> Record:
    """Reads a record; an alternative inside a record (`nested`) has no alternatives of its own."""
    with _opened(data) as (archive, members):
        total = sum(info.file_size for info in members.values())
        if total > budget_bytes:
            raise RecordError("too_large", f"record: got members of {total} bytes inflated, allowed {budget_bytes}")
        record = _read(archive, members)
        return record if nested else _with_alternatives(record, archive, members, budget_bytes - total)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[tuple[zipfile.ZipFile, Members]]:
    """The archive and its members by name; nothing is inflated yet."""
    if len(data) > MAX_FILE_BYTES:
        raise RecordError(
            "too_large", f"record: got {len(data)} bytes, allowed {MAX_FILE_BYTES}; ask for fewer views or steps"
        )
    if data[:4] != b"PK\x03\x04":
        raise RecordError(
            "not_a_record",
            f"record: got a file that starts with {data[:4]!r}, allowed a zip (PK); is it an .npz record?",
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as error:
        raise RecordError(
            "truncated", f"record: got a broken zip ({error}), allowed a whole file; fetch it again"
        ) from error
    with archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise RecordError("too_large", f"record: got {len(infos)} members, allowed {MAX_MEMBERS}")
        members = {info.filename: info for info in infos}
        if len(members) != len(infos):
            raise RecordError("invalid", "record: got two members with one name, allowed one each; the file is damaged")
        if "record.json" not in members:
            raise RecordError("not_a_record", "record: got a zip without record.json, allowed a llava-gaze record")
        yield archive, members


def _with_alternatives(record: Record, archive: zipfile.ZipFile, members: Members, budget_bytes: int) -> Record:
    """The record with its alternatives; all of them together inflate to no more than the budget."""
    count = sum(_ALTERNATIVE.fullmatch(name) is not None for name in members)
    if count > MAX_ALTERNATIVES:
        raise RecordError("too_large", f"alternatives: got {count}, allowed {MAX_ALTERNATIVES}")
    others = []
    for index in range(1, count + 1):
        name = f"alternatives/{index}.npz"
        if name not in members:
            raise RecordError("invalid", f"{name}: got none, allowed numbers from 1 to {count}; the file is damaged")
        others.append(_decode(_member(archive, members[name]), budget_bytes // count, nested=True))
    return replace(record, alternatives=tuple(others)) if others else record


def _facts(plain_record: dict[str, Any]) -> Facts:
    """The facts of a parsed record.json of this format and version."""
    if plain_record.get("format") != FORMAT:
        raise RecordError(
            "not_a_record", f"record.json.format: got {plain_record.get('format')!r:.80}, allowed {FORMAT!r}"
        )
    version = plain_record.get("version")
    if type(version) is not int or version != VERSION:  # true is 1 to Python, and no version
        raise RecordError(
            "unsupported_version",
            f"record.json.version: got {version!r:.40}, allowed {VERSION}; update llava-gaze to read it",
        )
    facts: Facts = from_plain(Facts, plain_record)
    check_facts(facts)
    return facts


def _read(archive: zipfile.ZipFile, members: Members) -> Record:
    plain_record = _json_object(archive, members["record.json"])
    facts = _facts(plain_record)
    geometry, rects = _geometry(plain_record, facts, members)
    if not isinstance(plain_record.get("views"), list):
        raise RecordError("invalid", "record.json.views: got no list, allowed a list of views; the file is damaged")
    stored_rects = _array(archive, members, "patch_rects.npy", "<f8", rects.shape)
    if not np.array_equal(stored_rects, rects):
        raise RecordError("invalid", "patch_rects.npy: got rectangles that disagree with record.json.geometry")
    views: dict[str, View] = {}
    for index, plain in enumerate(plain_record["views"]):
        view_facts: ViewFacts = from_plain(ViewFacts, plain, f"record.json.views[{index}]")
        views[view_facts.name] = _view(archive, members, index, view_facts, facts, geometry)
    if not views or len(views) != len(plain_record["views"]):
        raise RecordError(
            "invalid", "record.json.views: got none or two of one name, allowed one or more, each named once"
        )
    run = _json_object(archive, members["run.json"]) if "run.json" in members else {}
    return Record(facts, geometry, views, run, _picture(archive, members))


def _picture(archive: zipfile.ZipFile, members: Members, max_bytes: int | None = None) -> Picture | None:
    name = next((name for name in members if PICTURE_NAME.fullmatch(name)), None)
    if name is None:
        return None
    if max_bytes is not None and members[name].file_size > max_bytes:
        raise RecordError("too_large", f"{name}: got {members[name].file_size} bytes, allowed {max_bytes}")
    return name, _member(archive, members[name])


def _geometry(plain: dict[str, Any], facts: Facts, members: Members) -> tuple[Geometry, np.ndarray]:
    """The geometry and its rectangles; a grid larger than the stored rectangles is refused before it is computed."""
    try:
        geometry = Geometry.from_json(plain["geometry"], facts.image.width_px, facts.image.height_px)
        stored_bytes = members["patch_rects.npy"].file_size if "patch_rects.npy" in members else 0
        if geometry.rows < 1 or geometry.cols < 1 or geometry.rows * geometry.cols * 4 * 8 > stored_bytes:
            raise ValueError(f"a grid of {geometry.rows} x {geometry.cols}")
        return geometry, geometry.patch_rects()
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise RecordError("invalid", f"record.json.geometry: got {error!r:.80}, allowed steps and a grid") from error


def _view(
    archive: zipfile.ZipFile,
    members: Members,
    index: int,
    view: ViewFacts,
    facts: Facts,
    geometry: Geometry,
) -> View:
    sizes = {
        "query": len(facts.queries),
        "layer": len(view.layers),
        "head": len(view.heads),
        "layer_head": len(view.pairs),
        "row": geometry.rows,
        "col": geometry.cols,
    }
    if view.axes not in _AXES:
        raise RecordError("invalid", f"record.json.views[{index}].axes: got {view.axes!r:.80}, allowed {list(sizes)}")
    if view.encoding not in READABLE[view.precision]:
        raise RecordError(
            "unsupported_version",
            f"record.json.views[{index}].encoding: got {view.encoding!r:.40}, allowed "
            f"{' or '.join(READABLE[view.precision])}; "
            "update llava-gaze to read it",
        )
    shape = tuple(sizes[axis] for axis in view.axes)
    stored = _array(archive, members, f"views/{index}/maps.npy", DTYPES[view.precision], shape)
    scales = _array(archive, members, f"views/{index}/scales.npy", "<f4", shape[:-2])
    shares = _array(archive, members, f"views/{index}/shares.npy", "<f4", (*shape[:-2], len(SHARE_NAMES)))
    if not (np.isfinite(scales).all() and np.isfinite(shares).all() and np.isfinite(stored).all()):
        raise RecordError("invalid", f"views/{index}: got numbers that are not finite, allowed finite ones")
    _check_range(f"views/{index}/maps.npy", stored, 0, math.inf if stored.dtype.kind == "u" else 1 + TOLERANCE)
    _check_range(f"views/{index}/scales.npy", scales, 0, math.inf)
    _check_range(f"views/{index}/shares.npy", shares, -TOLERANCE, 1 + TOLERANCE)
    _check_range(f"views/{index}/shares.npy, sum of {', '.join(SHARE_NAMES)}", shares.sum(axis=-1), 0.99, 1.01)
    return View(view, stored, scales, shares)


def _check_range(name: str, values: np.ndarray, least: float, most: float) -> None:
    """Refuses numbers that no attention gives; the tolerance is for half precision and rounding."""
    wrong = values[(values < least) | (values > most)]
    if wrong.size:
        allowed = f"{least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise RecordError("invalid", f"{name}: got {float(wrong[0]):g}, allowed {allowed}; the file is damaged")


def _array(archive: zipfile.ZipFile, members: Members, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One .npy member, its type and shape checked against the header before the data is touched."""
    if name not in members:
        raise RecordError("invalid", f"{name}: got no such member, allowed records that have it; the file is damaged")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if members[name].file_size > expected + 4096:
        raise RecordError(
            "invalid", f"{name}: got {members[name].file_size} bytes, allowed {expected} for shape {shape}"
        )
    data = _member(archive, members[name])
    try:
        stream = io.BytesIO(data)
        read_header = _NPY_HEADERS[np.lib.format.read_magic(stream)]
        found_shape, fortran_order, found_dtype = read_header(stream)
    except Exception as error:  # a damaged header fails in the many ways of a Python literal
        raise RecordError("invalid", f"{name}: got no readable array ({error!r:.80}), allowed an .npy file") from error
    if found_dtype != np.dtype(dtype) or found_shape != shape or fortran_order:
        raise RecordError("invalid", f"{name}: got {found_dtype} {found_shape}, allowed {dtype} {shape} in C order")
    if len(data) - stream.tell() != expected:
        raise RecordError("invalid", f"{name}: got {len(data) - stream.tell()} bytes of data, allowed {expected}")
    return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes, never more than its directory entry promised."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RecordError(
            "invalid", f"{info.filename}: got compression {info.compress_type}, allowed 0 (stored) or 8 (deflate)"
        )
    try:
        with archive.open(info) as stream:
            data = stream.read(info.file_size + 1)
    except _ZIP_ERRORS as error:
        raise RecordError(
            "truncated", f"{info.filename}: got damaged data ({error}), allowed a whole file; fetch it again"
        ) from error
    if len(data) != info.file_size:
        raise RecordError(
            "truncated", f"{info.filename}: got {len(data)} bytes, allowed {info.file_size}; fetch it again"
        )
    return data


def _json_object(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int | None = None, max_values: int | None = None
) -> dict[str, Any]:
    allowed = MAX_JSON_BYTES if max_bytes is None else max_bytes
    if info.file_size > allowed:
        raise RecordError("too_large", f"{info.filename}: got {info.file_size} bytes, allowed {allowed}")
    data = _member(archive, info)
    if max_values is not None and json_values(data) > max_values:
        raise RecordError("too_large", f"{info.filename}: got up to {json_values(data)} values, allowed {max_values}")
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError("invalid", f"{info.filename}: got no readable JSON ({error}), allowed an object") from error
    if not isinstance(value, dict):
        raise RecordError("invalid", f"{info.filename}: got {type(value).__name__}, allowed an object")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}")
