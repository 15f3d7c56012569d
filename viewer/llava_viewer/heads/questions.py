"""Questions to find heads by: JSON lines, record files, folders and stores of them, checked before anything is asked.

Flow: paths -> lines and files -> `Question`s, or a `QuestionsError` with every line that is wrong: where it stands, the
field, what was given and what was expected.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llava_viewer.look.picture import PictureError, picture_size
from llava_viewer.store import Store, StoreError
from llava_viewer.store.about import is_store
from llava_viewer.store.named import MARK, read_named
from llava_wire.container import read_file
from llava_wire.errors import RecordError, beginning, nearest
from llava_wire.limits import MAX_TEXT_CHARS
from llava_wire.record import Record

FIELDS = ("image", "prompt", "boxes", "record")
_OF_RUNS = frozenset({"id", "expected", "tags"})
"""What the same lines may have for a dataset run; heads need none of it."""
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) px of the upright original image."""
_MOST_LINE_CHARS = 1 << 20
_BESIDE_PX = 1.0
"""How far a box may reach beyond the image: programs round."""
_ZIP = b"PK\x03\x04"


class QuestionsError(ValueError):
    """Lines or files that cannot be asked about; `problems` has a sentence for each, of which the message is the first.

    Args:
        problems: what is wrong, one or more.
        lines: how many there are in all.
    """

    def __init__(self, problems: Sequence[str], lines: int) -> None:
        self.problems = tuple(problems)
        others = f" ({len(problems)} of {lines} lines are wrong)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{others}")


@dataclass(frozen=True)
class Question:
    """One question about one image, or a run that answered one.

    Args:
        where: what it is called in messages: "birds.jsonl line 3", "run.npz".
        prompt: the question; of a run its own.
        digest: of the image's file; questions about one image have the same.
        image, record: the file that is asked about or looked at (or STORE::ID); one of them.
        boxes: by phrase, where the thing lies that the phrase names; several boxes are one thing.
    """

    where: str
    prompt: str
    digest: str
    image: Path | None = None
    record: Path | None = None
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)


class _Wrong(ValueError):
    """A field that is not what it should be: "field: got X, expected Y; do Z"."""


def read_questions(paths: Sequence[Path]) -> tuple[list[Question], list[str]]:
    """All questions, each once.

    Args:
        paths: files of JSON lines, record files, folders of record files, stores of runs.

    Returns:
        the questions, and sentences about those that were there twice.

    Raises:
        QuestionsError: naming every line or file that is wrong; or there is none at all.
        OSError: a file that was named cannot be read.
    """
    found: list[Question] = []
    problems: list[str] = []
    lines = 0
    for where, read in _entries(paths):
        lines += 1
        try:
            found.append(read())
        except (_Wrong, PictureError, RecordError, StoreError, OSError) as error:
            said = f"{Path(error.filename or where).name}: {error.strerror}" if isinstance(error, OSError) else error
            problems.append(f"{where}, {said}")
    if problems:
        raise QuestionsError(problems, lines)
    if not found:
        names = ", ".join(path.name for path in paths)
        raise QuestionsError([f"{names}: got no question, expected a JSON object on each line, or runs (.npz)"], 0)
    return _once(found)


def _once(found: Sequence[Question]) -> tuple[list[Question], list[str]]:
    """Each question about each image once: said twice it would count twice."""
    kept: dict[tuple[str, str], Question] = {}
    notes = []
    for one in found:
        first = kept.setdefault((one.digest, one.prompt), one)
        if first is not one:
            notes.append(f"{one.where} is the question of {first.where} about the same image; it counts once")
    return list(kept.values()), notes


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, Callable[[], Question]]]:
    """Where each question stands, and what reads it."""
    for path in paths:
        if is_store(path):
            store = Store(path)
            store.check_answered()
            for row in store.rows():
                if row["error"] is None:
                    where = f"{path.name}{MARK}{row['id']}"
                    yield where, partial(_of_record, where, Path(f"{path}{MARK}{row['id']}"), row["boxes"])
        elif path.is_dir():
            for one in sorted(path.glob("*.npz")):
                yield one.name, partial(_of_record, one.name, one, None)
        elif _is_zip(path):
            yield path.name, partial(_of_record, path.name, path, None)
        else:
            with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        where = f"{path.name} line {number}"
                        yield where, partial(_of_line, where, line, path.parent)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_ZIP)) == _ZIP


def _of_line(where: str, line: str, folder: Path) -> Question:
    given = _json(line)
    for name in given:
        if name not in FIELDS and name not in _OF_RUNS:
            raise _Wrong(f"{name:.80}: got an unknown field, expected only {', '.join(FIELDS)}{nearest(name, FIELDS)}")
    boxes = given.get("boxes", {})
    if not isinstance(boxes, dict):
        raise _Wrong(f"boxes: got {beginning(boxes)}, expected an object: phrase -> [x0, y0, x1, y1] in px")
    if "record" in given:
        for name in ("image", "prompt"):
            if name in given:
                raise _Wrong(f"{name}: got it beside a record, which has its own, expected one of them; leave one out")
        return _of_record(where, _path(given, "record", folder), boxes)
    image = _path(given, "image", folder)
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_TEXT_CHARS:
        raise _Wrong(f"prompt: got {_given(given, 'prompt')}, expected the question, a text")
    data = read_file(image)
    digest = hashlib.sha256(data).hexdigest()
    return Question(where, prompt, digest, image=image, boxes=_checked(boxes, picture_size(data)))


def _of_record(where: str, path: Path, boxes: Mapping[str, Any] | None) -> Question:
    record: Record = read_named(path, picture=False)[0]
    images = record.facts.images
    if boxes and len(images) != 1:
        raise _Wrong(f"boxes: got them for a record of {len(images)} images, expected one image; leave them out")
    size = (images[0].width_px, images[0].height_px)
    digest = "".join(image.sha256 for image in images)
    return Question(where, record.facts.prompt.text, digest, record=path, boxes=_checked(boxes or {}, size))


def _json(line: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
        _Wrong: it is none, names a field twice, or is too long.
    """
    if len(line) > _MOST_LINE_CHARS:
        raise _Wrong(f"line: got {len(line)} characters, expected up to {_MOST_LINE_CHARS}; split it")
    if "\ufffd" in line:
        raise _Wrong("line: got bytes that are no UTF-8, expected a JSON object in UTF-8; save the file as UTF-8")
    try:
        given = json.loads(line, object_pairs_hook=_pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _Wrong(f"line: got {beginning(line.strip())}, expected a JSON object ({error})") from None
    if not isinstance(given, dict):
        raise _Wrong(f"line: got {beginning(given)}, expected a JSON object with {', '.join(FIELDS)}")
    return given


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Wrong(f"{twice:.80}: got it twice, expected each name once; a phrase may have a list of boxes")
    return found


def _path(given: Mapping[str, Any], name: str, folder: Path) -> Path:
    named = given.get(name)
    if not isinstance(named, str) or not named:
        raise _Wrong(f"{name}: got {_given(given, name)}, expected the path of a file")
    path = folder / named
    if "\0" in named or not path.is_file():
        raise _Wrong(
            f"{name}: got {beginning(named)}, expected a file; paths count from the folder of the JSON lines, "
            f"{folder.resolve()}"
        )
    return path


def _given(given: Mapping[str, Any], name: str) -> str:
    return beginning(given[name]) if name in given else "nothing"


def _checked(boxes: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[Box, ...]]:
    """Boxes that lie on an image of this width and height in px."""
    found = {}
    for phrase, given in boxes.items():
        name = f"boxes.{phrase:.80}"
        if not any(char.isalnum() for char in phrase):
            raise _Wrong(f"{name}: got a phrase without a letter, expected words that the answer may hold")
        several = isinstance(given, list) and bool(given) and all(isinstance(one, list) for one in given)
        found[phrase] = tuple(_box(name, one, size) for one in (given if several else [given]))
    return found


def _box(name: str, given: Any, size: tuple[int, int]) -> Box:
    """Four numbers within the image.

    Raises:
        _Wrong: they are none, have no area, are no pixels, or lie elsewhere.
    """
    numbers = isinstance(given, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in given
    )
    if not numbers or len(given) != 4 or not all(math.isfinite(one) for one in given):
        raise _Wrong(f"{name}: got {beginning(given)}, expected [x0, y0, x1, y1] in px, or a list of such boxes")
    x0, y0, x1, y1 = (float(one) for one in given)
    if not (x0 < x1 and y0 < y1):
        raise _Wrong(
            f"{name}: got {given}, expected x0 < x1 and y0 < y1; a box is two corners, not a corner and a size"
        )
    if max(x1, y1) <= 1:
        raise _Wrong(f"{name}: got {given}, expected px of the image of {size[0]} x {size[1]} px; multiply them")
    if x0 < -_BESIDE_PX or y0 < -_BESIDE_PX or x1 > size[0] + _BESIDE_PX or y1 > size[1] + _BESIDE_PX:
        raise _Wrong(
            f"{name}: got {given}, expected a box on the upright image of {size[0]} x {size[1]} px; scale it to the "
            "image's own pixels"
        )
    return x0, y0, x1, y1
