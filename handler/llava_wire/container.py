"""A record's file read back, a stranger's too: every size and number is checked before it costs anything.

Flow: bytes -> `zipped` (members, what they may inflate to) -> record.json (`earlier` for version 1) -> `checks` ->
`arrays`, alternatives -> `Record`, or one `RecordError`. What the members are is in `writing`, how large they may be in
`limits`.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llava_wire import limits
from llava_wire.codes.blocks import Kept, Plot, plots_of
from llava_wire.codes.quantize import BLOCKS, DTYPES, readable
from llava_wire.errors import RecordError, beginning
from llava_wire.plain import from_plain, mismatch
from llava_wire.record import Record
from llava_wire.schema import FORMAT, SHARE_NAMES, VERSION, Facts, TextFacts, ViewFacts
from llava_wire.untrusted.arrays import (
    LARGEST,
    check_kept,
    check_maps,
    check_range,
    check_separators,
    check_shares,
    check_values,
    read_array,
)
from llava_wire.untrusted.bounded_json import check_plain, read_object
from llava_wire.untrusted.checks import check_facts, check_grids, check_text, check_view, patch_places
from llava_wire.untrusted.earlier import VERSION_1, as_version_2, in_its_own_words
from llava_wire.untrusted.question import QuestionLimits, trimmed
from llava_wire.untrusted.zipped import Budget, Members, member, opened
from llava_wire.view import TextView, View
from llava_wire.writing import FURTHER_PICTURE, PICTURE_NAME

_ALTERNATIVE = re.compile(r"alternatives/[1-9][0-9]{0,3}\.npz")
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
            raise RecordError("too_large", f"{path}: got {there} bytes, expected {most_bytes}; name another file")
        if there:
            return stream.read(there)
        pieces, size = [], 0  # a pipe, which does not tell its size
        while piece := stream.read(1 << 20):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise RecordError("too_large", f"{path}: got more bytes, expected {most_bytes}; name another file")
    return b"".join(pieces)


def decode_question(data: bytes, most: QuestionLimits) -> tuple[Facts, tuple[Picture, ...]]:
    """Reads what a replay needs of a record: its facts without rows, and the pictures when it carries them.

    Views, geometry and alternatives are not inflated, so that a stranger's record costs no more than these two.

    Raises:
        RecordError: as `decode`.
    """
    with opened(data) as (archive, members):
        budget = Budget.of(len(data))
        budget.json_bytes = min(budget.json_bytes, most.json_bytes)
        plain = _json_object(archive, members["record.json"], budget, min(limits.MAX_JSON_VALUES, most.json_values))
        version = _known(plain)
        with in_its_own_words(version):
            found = trimmed(plain, most)
            facts = _facts(as_version_2(found) if version == VERSION_1 else found)
        return facts, _pictures(archive, members, len(facts.images), most.picture_bytes)


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
        first, *further = _pictures(archive, members, len(record.facts.images)) or (None,)
        return replace(record, run=run, picture=first, further_pictures=tuple(further), alternatives=others)


def _alternatives(archive: zipfile.ZipFile, members: Members, budget: Budget) -> tuple[Record, ...]:
    """The alternatives in order; all of them together take no more than the budget."""
    count = sum(_ALTERNATIVE.fullmatch(name) is not None for name in members)
    if count > limits.MAX_ALTERNATIVES:
        raise RecordError("too_large", f"alternatives: got {count}, expected {limits.MAX_ALTERNATIVES}")
    others = []
    for index in range(1, count + 1):
        name = f"alternatives/{index}.npz"
        if name not in members:
            raise RecordError("invalid", f"{name}: got none, expected numbers from 1 to {count}; the file is damaged")
        others.append(_decode(member(archive, members[name]), budget, nested=True))
    return tuple(others)


def _facts(plain_record: dict[str, Any]) -> Facts:
    """The facts of a record.json under the keys of this version."""
    facts: Facts = from_plain(Facts, plain_record)
    check_facts(facts)
    return facts


def _known(plain_record: dict[str, Any]) -> int:
    """The version of a parsed record.json of this format."""
    if plain_record.get("format") != FORMAT:
        raise RecordError(
            "not_a_record", f"record.json.format: got {beginning(plain_record.get('format'))}, expected {FORMAT!r}"
        )
    version = plain_record.get("version")
    if type(version) is not int or version not in (VERSION_1, VERSION):  # true is 1 to Python, and no version
        raise RecordError(
            "unsupported_version",
            f"record.json.version: got {beginning(version)}, expected {VERSION_1} or {VERSION}; update llava-gaze to "
            "read it",
        )
    return version


def _read(archive: zipfile.ZipFile, members: Members, budget: Budget) -> Record:
    plain_record = _json_object(archive, members["record.json"], budget)
    version = _known(plain_record)
    with in_its_own_words(version):
        if version == VERSION_1:
            plain_record = as_version_2(plain_record)
        facts = _facts(plain_record)
        if plain_record.get("shares") != list(SHARE_NAMES):
            raise mismatch("record.json.shares", plain_record.get("shares"), str(list(SHARE_NAMES)))
        rects = check_grids(facts)
        listed = plain_record.get("views")
        if not isinstance(listed, list) or not 1 <= len(listed) <= limits.MAX_VIEWS:
            raise mismatch("record.json.views", listed, f"a list of 1 to {limits.MAX_VIEWS} views")
        # What stands for a map's patches in the file: version 1 has rows and columns.
        cells = (facts.grids[0].rows, facts.grids[0].cols) if version == VERSION_1 else rects.shape[:1]
        stored_rects = read_array(archive, members, "patch_rects.npy", "<f8", (*cells, 4)).reshape(-1, 4)
        if not np.array_equal(stored_rects, rects):
            raise RecordError("invalid", "patch_rects.npy: got rectangles that disagree with the steps of the grids")
        views: dict[str, View] = {}
        for index, plain in enumerate(listed):
            path = f"record.json.views[{index}]"
            view_facts: ViewFacts = from_plain(ViewFacts, plain, path)
            if view_facts.name in views:
                raise mismatch(f"{path}.name", view_facts.name, "each name once")
            check_view(view_facts, path, facts)
            views[view_facts.name] = _view(archive, members, index, view_facts, facts, cells, budget)
        texts = {} if version == VERSION_1 else _texts(archive, members, plain_record.get("texts", []), facts, budget)
        if twice := views.keys() & texts.keys():
            raise mismatch("record.json.texts: names", min(twice), "each name once among all views")
    return Record(facts, views, texts=texts, version=version)


def _texts(
    archive: zipfile.ZipFile, members: Members, listed: object, facts: Facts, budget: Budget
) -> dict[str, TextView]:
    """The views of text."""
    if not isinstance(listed, list) or len(listed) > limits.MAX_VIEWS:
        raise mismatch("record.json.texts", listed, f"a list of up to {limits.MAX_VIEWS} views")
    found: dict[str, TextView] = {}
    is_patch = patch_places(facts)
    for index, plain in enumerate(listed):
        path = f"record.json.texts[{index}]"
        text: TextFacts = from_plain(TextFacts, plain, path)
        if text.name in found:
            raise mismatch(f"{path}.name", text.name, "each name once")
        columns = check_text(text, path, facts, is_patch)
        name = f"texts/{index}.npy"
        budget.hold(len(facts.queries), columns, name)
        values = read_array(archive, members, name, "<f4", (len(facts.queries), columns))
        check_values(name, values, text.quantity)
        made = TextView(text, values)
        later = made.later([query.position for query in facts.queries])
        check_range(f"{name}, words after their row", values[later], 0, 0)
        found[text.name] = made
    return found


def _pictures(
    archive: zipfile.ZipFile, members: Members, images: int, max_bytes: int | None = None
) -> tuple[Picture, ...]:
    """The pictures of a record of so many images, the first one's first; all of them or none."""
    names = [name for name in members if PICTURE_NAME.fullmatch(name)][:1]
    further = {int(found[1]): name for name in members if (found := FURTHER_PICTURE.fullmatch(name))}
    names += [further[number] for number in sorted(further)]
    if not names:
        return ()
    if len(names) != images or sorted(further) != list(range(1, images)):
        raise RecordError(
            "invalid", f"pictures: got {beginning(names)}, expected one for each of {images} images or none"
        )
    found_bytes = sum(members[name].file_size for name in names)
    if max_bytes is not None and found_bytes > max_bytes:
        raise RecordError("too_large", f"{names[0]}: got {found_bytes} bytes, expected {max_bytes}")
    return tuple((name, member(archive, members[name])) for name in names)


def _view(
    archive: zipfile.ZipFile,
    members: Members,
    index: int,
    view: ViewFacts,
    facts: Facts,
    cells: tuple[int, ...],
    budget: Budget,
) -> View:
    """The arrays of a view; `cells` is the part of a map's shape in the file that stands for its patches."""
    sizes = {
        "query": len(facts.queries), "layer": len(view.layers), "head": len(view.heads), "layer_head": len(view.pairs),
    }  # fmt: skip
    known = readable(view.precision, view.quantity)
    if view.encoding not in known:
        raise RecordError(
            "unsupported_version",
            f"record.json.views[{index}].encoding: got {beginning(view.encoding)}, expected "
            f"{' or '.join(known)}; update llava-gaze to read it",
        )
    name = f"views/{index}"
    lead = tuple(sizes[axis] for axis in view.axes[:-1])
    budget.hold(math.prod(lead), math.prod(cells), f"{name}/maps.npy")
    plots: tuple[Plot, ...] = ()
    if view.precision == BLOCKS:
        if len(cells) > 1:
            raise mismatch(f"record.json.views[{index}].precision", view.precision, "one of version 1")
        # Maps that few bytes stand for cost a reader what one byte a patch would.
        budget.unfold(math.prod(lead) * math.prod(cells), f"{name}/maps.npy")
        plots = _plots(facts, f"record.json.views[{index}].precision")
        cells = (plots[-1].blocks.stop,)
    stored = read_array(archive, members, f"{name}/maps.npy", DTYPES[view.precision], (*lead, *cells))
    scales = read_array(archive, members, f"{name}/scales.npy", "<f4", lead)
    check_maps(name, stored, scales, view.encoding, view.quantity)
    kept = None
    if plots:
        wide = (*lead, plots[-1].kept.stop)
        places = read_array(archive, members, f"{name}/places.npy", "<u2", wide)
        kept = Kept(places, read_array(archive, members, f"{name}/largest.npy", "<f4", wide))
        check_kept(name, stored, kept, plots)
    shares = separators = None
    if view.quantity.is_share:
        shares = read_array(archive, members, f"{name}/shares.npy", "<f4", (*lead, len(SHARE_NAMES)))
        check_shares(name, shares)
        separators = _separators(archive, members, name, shares, facts)
    parts = None
    if view.parts:
        parts = read_array(archive, members, f"{name}/parts.npy", "<f4", (*lead, len(view.parts)))
        check_range(f"{name}/parts.npy", parts, -LARGEST, LARGEST)
    return View(view, stored.reshape(*lead, math.prod(cells)), scales, shares, facts.grids, parts, kept, separators)


def _separators(
    archive: zipfile.ZipFile, members: Members, view: str, shares: np.ndarray, facts: Facts
) -> np.ndarray | None:
    """What of a view's prompt shares lies on separators; None where the prompt has none, or it is not told."""
    name = f"{view}/separators.npy"
    if name not in members or not facts.prompt.separators:
        return None
    found = read_array(archive, members, name, "<f4", shares.shape[:-1])
    check_separators(name, found, shares)
    return found


def _plots(facts: Facts, path: str) -> tuple[Plot, ...]:
    """Where the grids lie in arrays of blocks."""
    try:
        return plots_of([(grid.rows, grid.cols) for grid in facts.grids])
    except ValueError as error:
        raise RecordError("invalid", f"{path}: {error}") from error


def _json_object(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget, most_values: int = limits.MAX_JSON_VALUES
) -> dict[str, Any]:
    budget.read_json(info)
    return read_object(member(archive, info), info.filename, most_values)
