"""One question asked: an answer, then the attention of every head for the rows of its words, with their contributions.

Flow: question -> answer with few maps (or a run's file) -> which rows matter -> its own maps where it holds them all,
else replays of those rows, so many layers at a time that no reply grows large -> float arrays per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from llava_viewer.heads.questions import Question
from llava_viewer.store.named import read_named
from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.schema import IMAGE_CHECK
from llava_wire.view import View

Kind = Literal["answer", "prompt"]
CONTRIBUTIONS = "contributions"
_ATTENTION = "attention"
_REPLY_BYTES = 12 << 20
"""What a reply with maps should stay below; half of what the models of this house allow."""
_VALUE_BYTES, _MAP_BYTES = 2, 24
"""A value in float16; scale and shares of a map."""
_FEW_MAPS = {"views": [{"name": "few", "layers": [0], "heads": [0], "reduction": "layers_heads"}]}
_ASKED_ABOUT = ("image", "prompt", "record")


class Asks(Protocol):
    """What answers: `llava_viewer.Client`, or anything that does as it does."""

    def predict(self, image: Path, prompt: str, options: Mapping[str, Any]) -> Record:
        """The record of an answer."""

    def replay(self, record: Record, options: Mapping[str, Any], *, image: Path | None) -> Record:
        """The record of other views of an answer."""


@dataclass(frozen=True)
class Rows:
    """Maps of some rows of one answer.

    Args:
        maps: by row, float32 [layer, head, patch], attention.
        contributions: by row, float32 [patch]; empty where they were not asked for.
    """

    maps: Mapping[int, np.ndarray]
    contributions: Mapping[int, np.ndarray]


def concerns_one_question(error: RequestError) -> bool:
    """Whether another image or question may well be answered."""
    return error.field.partition(".")[0] in _ASKED_ABOUT or error.code in ("too_large", "does_not_fit", "deadline")


def answered(question: Question, asks: Asks, options: Mapping[str, Any], rows: Kind, *, check: bool) -> Record:
    """The answer to a question, or the run that has it.

    Args:
        question: what is asked.
        asks: whom.
        options: of the answer, such as max_new_tokens.
        rows: whose rows will be looked at; for those of the question one token is generated.
        check: whether the answer's words are tested without the image.

    Raises:
        RequestError, RecordError, OSError: as `Client.predict`.
    """
    if question.record is not None:
        record = read_named(question.record)[0]
        if rows == "prompt" and not any(query.kind == rows for query in record.queries):
            again = asks.replay(record, {**_FEW_MAPS, "rows": rows, "check": []}, image=None)
            return again.with_pictures(record.pictures) if record.pictures else again
        return record
    assert question.image is not None
    asked = {**options, **_FEW_MAPS, "rows": rows, "check": [IMAGE_CHECK] if check else []}
    asked |= {"max_new_tokens": 1} if rows == "prompt" else {"steps": [0]}
    return asks.predict(question.image, question.prompt, asked)


def rows_of(question: Question, record: Record, wanted: Sequence[int], kind: Kind, asks: Asks, *, logit: bool) -> Rows:
    """The maps of all heads for some rows.

    Args:
        question: where the record came from.
        record: the answer.
        wanted: answer tokens, or positions in the prompt.
        kind: which of them.
        asks: whom to ask for what the record does not hold.
        logit: whether contributions are wanted too.

    Raises:
        RequestError, RecordError, OSError: as `Client.replay`.
    """
    own = _held(record, wanted, kind, logit)
    if own is not None:
        return own
    layers, facts = [*range(record.facts.model.layers)], record.facts
    rows = len(wanted) if kind == "answer" else len([query for query in record.queries if query.kind == kind])
    patches = sum(grid.patches for grid in facts.grids)
    layer_bytes = max(rows, 1) * facts.model.heads * (patches * _VALUE_BYTES + _MAP_BYTES)
    together = max(1, _REPLY_BYTES // layer_bytes)
    parts: list[dict[int, np.ndarray]] = []
    contributions: dict[int, np.ndarray] = {}
    for start in range(0, len(layers), together):
        views: list[dict[str, Any]] = [
            {"name": "heads", "layers": layers[start : start + together], "heads": "all", "reduction": "none"}
        ]
        views += [{"name": CONTRIBUTIONS, "method": CONTRIBUTIONS}] if logit and not start else []
        options: dict[str, Any] = {"views": views, "rows": kind, "precision": "float16", "check": []}
        options |= {"steps": [*wanted]} if kind == "answer" else {}
        again = asks.replay(record, options, image=question.image)
        places = _places(again, wanted, kind)
        parts.append(_picked(again.views["heads"], places))
        if logit and not start:
            contributions = _picked(again.views[CONTRIBUTIONS], places)
    return Rows({row: np.concatenate([part[row] for part in parts]) for row in wanted}, contributions)


def _held(record: Record, wanted: Sequence[int], kind: Kind, logit: bool) -> Rows | None:
    """The maps that a record holds itself; None where some are missing."""
    try:
        places = _places(record, wanted, kind)
    except ValueError:
        return None
    model = record.facts.model
    every = (tuple(range(model.layers)), tuple(range(model.heads)))
    heads = [view for view in _of_method(record, _ATTENTION) if view.axes == ("query", "layer", "head", "patch")]
    whole = next((view for view in heads if (view.facts.layers, view.facts.heads) == every), None)
    parts = next(
        (one for one in _of_method(record, CONTRIBUTIONS) if not one.facts.method.parameters.get("rival")), None
    )
    if whole is None or (logit and parts is None):
        return None
    return Rows(_picked(whole, places), {} if parts is None else _picked(parts, places))


def _of_method(record: Record, name: str) -> Iterator[View]:
    return (view for view in record.views.values() if view.facts.method.name == name and "query" in view.axes)


def _places(record: Record, wanted: Sequence[int], kind: Kind) -> dict[int, int]:
    """Where each row stands in the record's views.

    Raises:
        ValueError: a row is not there.
    """
    there = {query.token: place for place, query in enumerate(record.queries) if query.kind == kind}
    missing = [row for row in wanted if row not in there]
    if missing:
        raise ValueError(f"rows: got a record without the {kind} rows {missing}, expected them; ask for them")
    return {row: there[row] for row in wanted}


def _picked(view: View, places: Mapping[int, int]) -> dict[int, np.ndarray]:
    """Each row's maps, [layer, head, patch], or [patch] where the method tells none apart."""
    return {row: view.at(place).patches_float() for row, place in places.items()}
