"""A record's file read back, a stranger's too: every size and number is checked before it costs anything.

Flow: bytes -> `zipped` (members, what they may inflate to) -> record.json, geometry, arrays, alternatives -> `Record`,
or one `RecordError`. What the members are is in `writing`, how large they may be in `limits`.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llava_wire import limits
from llava_wire.codes.quantize import DTYPES, READABLE
from llava_wire.errors import RecordError, beginning
from llava_wire.geometry import Geometry
from llava_wire.record import Record
from llava_wire.schema import FORMAT, SHARE_NAMES, VERSION, Facts, ViewFacts, from_plain, mismatch
from llava_wire.untrusted.bounded_json import check_plain, read_object
from llava_wire.untrusted.checks import TOLERANCE, check_facts, check_rects, check_view
from llava_wire.untrusted.question import QuestionLimits, trimmed
from llava_wire.untrusted.zipped import Budget, Members, member, opened
from llava_wire.view import View
from llava_wire.writing import PICTURE_NAME

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_ALTERNATIVE = re.compile(r"alternatives/[1-9][0-9]{0,3}\.npz")
_TOP_CODE = {"sqrt-u8": 255.0**2, "linear-u8": 255.0}
"""What a map's scale is multiplied by at its peak."""
Picture = tuple[str, bytes]
"""A picture's member name and file."""


def decode(data: bytes) -> Record:
    """Reads a record back.

    Raises:
        RecordError: "not_a_record", "truncated", "too_large", "unsupported_version" or "invalid".
    """
    return _decode(data, Budget.of(len(data)), nested=False)


def read_file(path: Path, most_bytes: int = limits.MAX_FILE_BYTES) -> bytes:
    """A file's bytes; one that is too large, or has no end, is refused before it is read.

    Raises:
        RecordError: "too_large".
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        there = os.fstat(stream.fileno()).st_size
        if there > most_bytes:
            raise RecordError("too_large", f"{path}: got {there} bytes, allowed {most_bytes}; name another file")
        if there:
            return stream.read(there)
        pieces, size = [], 0  # a pipe, which does not tell its size
        while piece := stream.read(1 << 20):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise RecordError("too_large", f"{path}: got more bytes, allowed {most_bytes}; name another file")
    return b"".join(pieces)


def decode_question(data: bytes, most: QuestionLimits) -> tuple[Facts, Picture | None]:
    """Reads what a replay needs of a record: its facts without rows, and the picture when it carries one.

    Views, geometry and alternatives are not inflated, so that a stranger's record costs no more than these two.

    Raises:
        RecordError: as `decode`.
    """
    with opened(data) as (archive, members):
        budget = Budget.of(len(data))
        budget.json_bytes = min(budget.json_bytes, most.json_bytes)
        plain = _json_object(archive, members["record.json"], budget, min(limits.MAX_JSON_VALUES, most.json_values))
        return _facts(trimmed(plain, most)), _picture(archive, members, most.picture_bytes)


def _decode(data: bytes, budget: Budget, *, nested: bool) -> Record:
    """Reads a record; an alternative inside a record (`nested`) has neither alternatives, picture nor run block."""
    with opened(data) as (archive, members):
        budget.inflate(members)
        record = _read(archive, members, budget)
        if nested:
            return record
        run = _json_object(archive, members["run.json"], budget) if "run.json" in members else {}
        check_plain(run, "run.json")
        others = _alternatives(archive, members, budget)
        return replace(record, run=run, picture=_picture(archive, members), alternatives=others)


def _alternatives(archive: zipfile.ZipFile, members: Members, budget: Budget) -> tuple[Record, ...]:
    """The alternatives in order; all of them together take no more than the budget."""
    count = sum(_ALTERNATIVE.fullmatch(name) is not None for name in members)
    if count > limits.MAX_ALTERNATIVES:
        raise RecordError("too_large", f"alternatives: got {count}, allowed {limits.MAX_ALTERNATIVES}")
    others = []
    for index in range(1, count + 1):
        name = f"alternatives/{index}.npz"
        if name not in members:
            raise RecordError("invalid", f"{name}: got none, allowed numbers from 1 to {count}; the file is damaged")
        others.append(_decode(member(archive, members[name]), budget, nested=True))
    return tuple(others)


def _facts(plain_record: dict[str, Any]) -> Facts:
    """The facts of a parsed record.json of this format and version."""
    if plain_record.get("format") != FORMAT:
        raise RecordError(
            "not_a_record", f"record.json.format: got {beginning(plain_record.get('format'))}, allowed {FORMAT!r}"
        )
    version = plain_record.get("version")
    if type(version) is not int or version != VERSION:  # true is 1 to Python, and no version
        raise RecordError(
            "unsupported_version",
            f"record.json.version: got {beginning(version)}, allowed {VERSION}; update llava-gaze to read it",
        )
    facts: Facts = from_plain(Facts, plain_record)
    check_facts(facts)
    return facts


def _read(archive: zipfile.ZipFile, members: Members, budget: Budget) -> Record:
    plain_record = _json_object(archive, members["record.json"], budget)
    facts = _facts(plain_record)
    if plain_record.get("shares") != list(SHARE_NAMES):
        raise mismatch("record.json.shares", plain_record.get("shares"), str(list(SHARE_NAMES)))
    geometry = Geometry.from_json(plain_record.get("geometry"), facts.image.width_px, facts.image.height_px)
    rects = check_rects(geometry, facts)
    listed = plain_record.get("views")
    if not isinstance(listed, list) or not 1 <= len(listed) <= limits.MAX_VIEWS:
        raise mismatch("record.json.views", listed, f"a list of 1 to {limits.MAX_VIEWS} views")
    stored_rects = _array(archive, members, "patch_rects.npy", "<f8", rects.shape)
    if not np.array_equal(stored_rects, rects):
        raise RecordError("invalid", "patch_rects.npy: got rectangles that disagree with record.json.geometry")
    views: dict[str, View] = {}
    for index, plain in enumerate(listed):
        path = f"record.json.views[{index}]"
        view_facts: ViewFacts = from_plain(ViewFacts, plain, path)
        if view_facts.name in views:
            raise mismatch(f"{path}.name", view_facts.name, "each name once")
        check_view(view_facts, path, facts)
        views[view_facts.name] = _view(archive, members, index, view_facts, facts, geometry, budget)
    return Record(facts, geometry, views)


def _picture(archive: zipfile.ZipFile, members: Members, max_bytes: int | None = None) -> Picture | None:
    name = next((name for name in members if PICTURE_NAME.fullmatch(name)), None)
    if name is None:
        return None
    if max_bytes is not None and members[name].file_size > max_bytes:
        raise RecordError("too_large", f"{name}: got {members[name].file_size} bytes, allowed {max_bytes}")
    return name, member(archive, members[name])


def _view(
    archive: zipfile.ZipFile,
    members: Members,
    index: int,
    view: ViewFacts,
    facts: Facts,
    geometry: Geometry,
    budget: Budget,
) -> View:
    sizes = {
        "query": len(facts.queries),
        "layer": len(view.layers),
        "head": len(view.heads),
        "layer_head": len(view.pairs),
        "row": geometry.rows,
        "col": geometry.cols,
    }
    if view.encoding not in READABLE[view.precision]:
        raise RecordError(
            "unsupported_version",
            f"record.json.views[{index}].encoding: got {beginning(view.encoding)}, allowed "
            f"{' or '.join(READABLE[view.precision])}; update llava-gaze to read it",
        )
    shape = tuple(sizes[axis] for axis in view.axes)
    budget.hold(math.prod(shape[:-2]), math.prod(shape[-2:]), f"views/{index}/maps.npy")
    stored = _array(archive, members, f"views/{index}/maps.npy", DTYPES[view.precision], shape)
    scales = _array(archive, members, f"views/{index}/scales.npy", "<f4", shape[:-2])
    shares = _array(archive, members, f"views/{index}/shares.npy", "<f4", (*shape[:-2], len(SHARE_NAMES)))
    if stored.dtype.kind == "u":
        _check_range(f"views/{index}/scales.npy", scales, 0, (1 + TOLERANCE) / _TOP_CODE[view.encoding])
    else:
        _check_range(f"views/{index}/scales.npy", scales, 1, 1)
        _check_range(f"views/{index}/maps.npy", stored, 0, 1 + TOLERANCE)
    _check_range(f"views/{index}/shares.npy", shares, -TOLERANCE, 1 + TOLERANCE)
    _check_range(f"views/{index}/shares.npy, sum of {', '.join(SHARE_NAMES)}", shares.sum(axis=-1), 0.99, 1.01)
    return View(view, stored, scales, shares)


def _check_range(name: str, values: np.ndarray, least: float, most: float) -> None:
    """Refuses numbers that no attention gives, NaN among them; the tolerance is for half precision and rounding."""
    if values.size == 0 or (values.min() >= least and values.max() <= most):
        return
    wrong = values[~((values >= least) & (values <= most))]
    allowed = f"{least:g} to {most:g}" if least < most else f"{most:g}"
    raise RecordError("invalid", f"{name}: got {float(wrong.flat[0]):g}, allowed {allowed}; the file is damaged")


def _array(archive: zipfile.ZipFile, members: Members, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One .npy member, its type and shape checked against the header before the data is touched."""
    if name not in members:
        raise RecordError("invalid", f"{name}: got no such member, allowed records that have it; the file is damaged")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if members[name].file_size > expected + 4096:
        raise RecordError(
            "invalid", f"{name}: got {members[name].file_size} bytes, allowed {expected} for shape {shape}"
        )
    data = member(archive, members[name])
    try:
        stream = io.BytesIO(data)
        read_header = _NPY_HEADERS[np.lib.format.read_magic(stream)]
        found_shape, fortran_order, found_dtype = read_header(stream)
    except Exception as error:  # a damaged header fails in the many ways of a Python literal
        raise RecordError(
            "invalid", f"{name}: got no readable array ({beginning(str(error))}), allowed an .npy file"
        ) from error
    if found_dtype != np.dtype(dtype) or found_shape != shape or fortran_order:
        found = f"{beginning(str(found_dtype))} {beginning(found_shape)}{' in Fortran order' if fortran_order else ''}"
        raise RecordError("invalid", f"{name}: got {found}, allowed {dtype} {shape} in C order")
    if len(data) - stream.tell() != expected:
        raise RecordError("invalid", f"{name}: got {len(data) - stream.tell()} bytes of data, allowed {expected}")
    return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape)


def _json_object(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget, most_values: int = limits.MAX_JSON_VALUES
) -> dict[str, Any]:
    budget.read_json(info)
    return read_object(member(archive, info), info.filename, most_values)
