"""What types cannot check of a record's facts: counts within limits, numbers in range, indices that point somewhere.

Flow: `Facts` (with its grids), `ViewFacts` -> the first thing that does not fit as a `RecordError`, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llava_wire import limits
from llava_wire.geometry import Geometry
from llava_wire.grids import Grid, image_runs
from llava_wire.plain import mismatch
from llava_wire.reduction import reduction_of
from llava_wire.schema import Annotations, Facts, Image, Prompt, Query, TextFacts, Token, ViewFacts
from llava_wire.untrusted.arrays import TOLERANCE
from llava_wire.untrusted.bounded_json import check_plain

_FARTHEST_PX = 2.0**31


def check_facts(facts: Facts) -> None:
    """Checks record.json's facts against the limits and each other.

    Raises:
        RecordError: reason "invalid", naming the first fact that does not fit.
    """
    _check_prompt(facts.prompt)
    model = facts.model
    _within("record.json.images: images", len(facts.images), 1, limits.MAX_IMAGES)
    for i, image in enumerate(facts.images):
        _check_image(image, f"record.json.images[{i}]")
    _within("record.json.model.layers", model.layers, 1, limits.MAX_LAYERS)
    _within("record.json.model.heads", model.heads, 1, limits.MAX_LAYERS)
    for name in ("name", "source", "revision", "dtype", "attention", "device"):
        _short(f"record.json.model.{name}", getattr(model, name))
    _within("record.json.notes: notes", len(facts.notes), 0, limits.MAX_NOTES)
    for i, note in enumerate(facts.notes):
        for name in ("code", "field", "text"):
            _short(f"record.json.notes[{i}].{name}", getattr(note, name))
    for name in ("sampling", "software", "checks"):
        check_plain(getattr(facts, name), f"record.json.{name}")
    if facts.annotations is not None:
        _check_annotations(facts.annotations)
    _check_tokens(facts.tokens)
    _check_queries(facts.queries, len(facts.tokens), len(facts.prompt.ids))


def check_view(view: ViewFacts, path: str, facts: Facts) -> None:
    """Checks what a view says of itself.

    Raises:
        RecordError: reason "invalid".
    """
    _check_words_of(view, path)
    _within(f"{path}.parts: names", len(view.parts), 0, 0 if view.quantity.is_share else limits.MAX_PARTS)
    _each_once(f"{path}.parts", view.parts)
    for name in view.parts:
        _short(f"{path}.parts", name)
    reduction, paired = reduction_of(view.reduction), bool(view.pairs)
    axes = reduction.axes(paired=paired) if reduction.allows(paired=paired) else ()
    if view.axes != axes:
        raise mismatch(f"{path}.axes", list(view.axes), f"{list(axes)} for reduction {view.reduction!r}")
    _check_selection(view, path, facts, needed=view.quantity.is_share or bool(reduction.keeps))
    _each_once(f"{path}.steps", view.steps)
    _each_below(f"{path}.steps", view.steps, len(facts.tokens))
    if not view.error_bound >= 0 or (view.quantity.is_share and view.error_bound > 1):
        raise mismatch(f"{path}.error_bound", view.error_bound, "0 to 1" if view.quantity.is_share else "0 or more")


def patch_places(facts: Facts) -> npt.NDArray[np.bool_]:
    """[position]: which positions of prompt and answer are patches."""
    places = np.zeros(len(facts.prompt.ids) + len(facts.tokens), bool)
    for first, count in image_runs(facts.grids):
        places[first : first + count] = True
    return places


def check_text(view: TextFacts, path: str, facts: Facts, is_patch: npt.NDArray[np.bool_]) -> int:
    """Checks what a view of text says of itself.

    Args:
        view: its facts.
        path: what to call it in errors.
        facts: those of its record, checked before.
        is_patch: of these, as `patch_places` has it.

    Returns:
        how many columns it has.

    Raises:
        RecordError: reason "invalid".
    """
    _check_words_of(view, path)
    _check_selection(view, path, facts, needed=view.quantity.is_share)
    _within(f"{path}.columns: runs", len(view.columns), 1, limits.MAX_RUNS)
    length, end = len(is_patch), 0
    for first, count in view.columns:
        if not (first >= end and 1 <= count <= length - first):
            raise mismatch(f"{path}.columns", [first, count], f"ascending runs inside the {length} tokens")
        end = first + count
        if (taken := is_patch[first:end]).any():
            raise mismatch(f"{path}.columns", first + int(taken.argmax()), "no position of a patch")
    return sum(count for _, count in view.columns)


def _check_words_of(view: ViewFacts | TextFacts, path: str) -> None:
    """Texts and parameters of a view."""
    for name in ("name", "head_set"):
        _short(f"{path}.{name}", getattr(view, name))
    _short(f"{path}.method.name", view.method.name)
    check_plain(view.method.parameters, f"{path}.method.parameters")
    for name in ("name", "unit"):
        _short(f"{path}.quantity.{name}", getattr(view.quantity, name))


def _check_selection(view: ViewFacts | TextFacts, path: str, facts: Facts, *, needed: bool) -> None:
    """Layers and heads, or pairs, of a view; none of them only where they are not `needed`."""
    if view.pairs:
        if view.layers or view.heads:
            raise mismatch(f"{path}.layers", list(view.layers), "none beside pairs")
        _each_once(f"{path}.pairs", view.pairs)
        _each_below(f"{path}.pairs", [pair[0] for pair in view.pairs], facts.model.layers)
        _each_below(f"{path}.pairs", [pair[1] for pair in view.pairs], facts.model.heads)
    elif view.layers or view.heads or needed:
        model = facts.model
        for name, chosen, count in (("layers", view.layers, model.layers), ("heads", view.heads, model.heads)):
            if not chosen:
                raise mismatch(f"{path}.{name}", list(chosen), "one or more")
            _each_once(f"{path}.{name}", chosen)
            _each_below(f"{path}.{name}", chosen, count)


def check_grids(facts: Facts) -> npt.NDArray[np.float64]:
    """The rectangles [patch, 4] of grids that fit each other, the pictures and the prompt.

    Raises:
        RecordError: reason "invalid".
    """
    _within("record.json.grids: grids", len(facts.grids), 1, limits.MAX_GRIDS)
    _each_once("record.json.grids: names", [grid.name for grid in facts.grids])
    _within("record.json.grids: steps", sum(len(grid.steps) for grid in facts.grids), 0, limits.MAX_ALL_STEPS)
    _within("record.json.grids: runs", sum(len(grid.positions) for grid in facts.grids), 1, limits.MAX_RUNS)
    for i, grid in enumerate(facts.grids):
        _check_grid(grid, f"record.json.grids[{i}]", facts)
    end, before = 0, ""
    for (start, count), name in sorted((run, grid.name) for grid in facts.grids for run in grid.positions):
        if start < end:
            raise mismatch(
                "record.json.grids", f"position {start} in {before!r:.60} and {name!r:.60}", "each position once"
            )
        end, before = start + count, name
    _check_separators(facts)
    return np.concatenate([_rects(grid, i, facts) for i, grid in enumerate(facts.grids)])


def _check_separators(facts: Facts) -> None:
    """Ascending runs of the prompt, none of them a patch."""
    path, runs = "record.json.prompt.separators", facts.prompt.separators
    _within(f"{path}: runs", len(runs), 0, limits.MAX_RUNS)
    if not runs:
        return
    ids, is_patch = len(facts.prompt.ids), patch_places(facts)
    end = 0
    for first, count in runs:
        if not (first >= end and 1 <= count <= ids - first):
            raise mismatch(path, [first, count], f"ascending runs inside the {ids} ids of the prompt")
        end = first + count
        if (taken := is_patch[first:end]).any():
            raise mismatch(path, first + int(taken.argmax()), "no position of a patch")


def _rects(grid: Grid, number: int, facts: Facts) -> npt.NDArray[np.float64]:
    """The rectangles [patch, 4] of a grid."""
    try:
        rects = Geometry.of(facts.images[grid.image], grid).patch_rects().reshape(-1, 4)
    except OverflowError:
        rects = np.full((1, 4), np.inf)
    if not np.abs(rects).max() <= _FARTHEST_PX:
        path = f"record.json.grids[{number}].steps"
        raise mismatch(path, "patches far outside", "patches within 2^31 px of the image")
    return rects


def _check_grid(grid: Grid, path: str, facts: Facts) -> None:
    _short(f"{path}.name", grid.name)
    _within(f"{path}.image", grid.image, 0, len(facts.images) - 1)
    _within(f"{path}.patch_px", grid.patch_px, 1, limits.MAX_SIDE_PX)
    for name, side in (("rows", grid.rows), ("cols", grid.cols)):
        _within(f"{path}.{name}", side, 1, limits.MAX_GRID_SIDE)
    _within(f"{path}.steps: steps", len(grid.steps), 0, limits.MAX_STEPS)
    for step in grid.steps:
        for size in (step.width_px, step.height_px):
            _within(f"{path}.steps", size, 1, limits.MAX_SIDE_PX)
        for offset in (step.left_px, step.top_px):
            _within(f"{path}.steps", offset, -limits.MAX_SIDE_PX, limits.MAX_SIDE_PX)
    _check_trim(grid, path, facts)
    ids = len(facts.prompt.ids)
    for start, count in grid.positions:
        if not (start >= 0 and 1 <= count <= ids - start):
            raise mismatch(f"{path}.positions", [start, count], f"runs inside the {ids} ids of the prompt")
    patches = sum(count for _, count in grid.positions)
    if patches != grid.patches:
        raise mismatch(f"{path}.positions", f"{patches} positions", f"{grid.patches}, one per patch")


def _check_trim(grid: Grid, path: str, facts: Facts) -> None:
    """One at most, and in whole tiles."""
    trims = [number for number, step in enumerate(grid.steps) if step.op == "trim"]
    _within(f"{path}.steps: trims", len(trims), 0, 1)
    for number in trims:
        step, before = grid.steps[number], (grid.steps[number - 1] if number else facts.images[grid.image])
        for one, other, gap in (
            (before.width_px, step.width_px, step.left_px),
            (before.height_px, step.height_px, step.top_px),
        ):
            tiles, rest = divmod(one - other, gap) if gap > 0 else (0, one - other)
            if gap < 0 or rest or tiles < 0 or (tiles and (one % tiles or other % tiles)):
                raise mismatch(f"{path}.steps", [one, other, gap], "a trim of tiles that are all alike")


def _check_image(image: Image, path: str) -> None:
    for name, size in (("width_px", image.width_px), ("height_px", image.height_px)):
        _within(f"{path}.{name}", size, 1, limits.MAX_SIDE_PX)
    _within(f"{path}: pixels", image.width_px * image.height_px, 1, limits.MAX_PICTURE_PIXELS)
    for name in ("sha256", "pixels_sha256"):
        _short(f"{path}.{name}", getattr(image, name))


def _check_annotations(annotations: Annotations) -> None:
    _short("record.json.annotations.rule", annotations.rule)
    _within("record.json.annotations.tags: tags", len(annotations.tags), 0, limits.MAX_TAGS)
    for tag in annotations.tags:
        _short("record.json.annotations.tags", tag)


def _check_prompt(prompt: Prompt) -> None:
    count = len(prompt.ids)
    _within("record.json.prompt.ids: ids", count, 0, limits.MAX_PROMPT_IDS)
    _within("record.json.prompt.ids", min(prompt.ids, default=0), 0, limits.MAX_INTEGER)
    if len(prompt.pieces) != count:
        raise mismatch("record.json.prompt.pieces", len(prompt.pieces), f"{count} pieces, one per id")
    if prompt.texts and len(prompt.texts) != count:
        raise mismatch("record.json.prompt.texts", len(prompt.texts), f"{count} texts, one per id")
    for name, texts in (("pieces", prompt.pieces), ("texts", prompt.texts)):
        _short(f"record.json.prompt.{name}", max(texts, key=len, default=""))
        _within(f"record.json.prompt.{name}: characters", sum(map(len, texts)), 0, limits.MAX_PROMPT_CHARS)
    _within("record.json.prompt.turns: turns", len(prompt.turns), 0, limits.MAX_TURNS)
    for i, turn in enumerate(prompt.turns):
        _short(f"record.json.prompt.turns[{i}].role", turn.role)


def _check_tokens(tokens: Sequence[Token]) -> None:
    _within("record.json.tokens: tokens", len(tokens), 0, limits.MAX_TOKENS)
    chars = 0
    for i, token in enumerate(tokens):
        # Names are built for what is wrong only: a record holds thousands of these numbers.
        blind = -math.inf if token.without_image is None else token.without_image
        if max(token.logprob, *(one.logprob for one in token.top), blind) > TOLERANCE:
            numbers = {".logprob": token.logprob, ".without_image": blind}
            numbers |= {f".top[{rank}].logprob": one.logprob for rank, one in enumerate(token.top)}
            place, wrong = next(item for item in numbers.items() if item[1] > TOLERANCE)
            raise mismatch(f"record.json.tokens[{i}]{place}", wrong, "the log of a probability, 0 or less")
        if len(token.top) > limits.MAX_CANDIDATES:
            raise mismatch(f"record.json.tokens[{i}].top", len(token.top), f"up to {limits.MAX_CANDIDATES} candidates")
        if min(token.id, *(one.id for one in token.top), 0) < 0:
            raise mismatch(f"record.json.tokens[{i}].id", token.id, "0 or more, and so of its candidates")
        texts = (token.piece, token.text, *(one.text for one in token.top))
        _short(f"record.json.tokens[{i}]", max(texts, key=len))
        chars += sum(map(len, texts))
    _within("record.json.tokens: characters", chars, 0, limits.MAX_TOKEN_CHARS)


def _check_queries(queries: Sequence[Query], tokens: int, ids: int) -> None:
    seen: set[tuple[str, int]] = set()
    asked = False
    for i, query in enumerate(queries):
        path = f"record.json.queries[{i}]"
        answer = query.kind == "answer"
        count = tokens if answer else ids
        if not 0 <= query.token < count:
            raise mismatch(f"{path}.token", query.token, f"0..{count - 1}")
        step, position = (query.token, ids - 1 + query.token) if answer else (0, query.token)
        if query.step != step:
            raise mismatch(f"{path}.step", query.step, f"{step} for {query.kind} token {query.token}")
        if query.position != position:
            raise mismatch(f"{path}.position", query.position, f"{position} for {query.kind} token {query.token}")
        if (query.kind, query.token) in seen:
            raise mismatch(path, f"{query.kind} token {query.token} twice", "each row once")
        if answer and asked:
            raise mismatch(path, "an answer row after question rows", "answer rows first")
        seen.add((query.kind, query.token))
        asked = asked or not answer


def _within(path: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise mismatch(path, number, f"{least} to {most}")


def _short(path: str, text: str) -> None:
    if len(text) > limits.MAX_PIECE_CHARS:
        raise mismatch(path, f"{len(text)} characters", f"up to {limits.MAX_PIECE_CHARS}")


def _each_once(path: str, values: Sequence[object]) -> None:
    if len(set(values)) != len(values):
        raise mismatch(path, list(values), "each once")


def _each_below(path: str, values: Sequence[int], count: int) -> None:
    wrong = next((value for value in values if not 0 <= value < count), None)
    if wrong is not None:
        raise mismatch(path, wrong, f"0..{count - 1}")
