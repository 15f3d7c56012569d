"""The maps of a record as frames: arrays -> grey PNGs, share bars, top patches and warnings, all formatted.

Flow: `View` -> [query, slot, row, col] -> `Slot`s of `Frame`s -> `ViewPanel`. What is left out is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llava_viewer.look import wording
from llava_viewer.look.heatmap import ATLAS_ERROR, Atlas, block_atlas, build_atlas, data_uri, grey_png
from llava_viewer.look.selection import reduction_text, selection_text, slot_names
from llava_viewer.look.units import Unit, method_summary, method_text, unit_of
from llava_viewer.look.view_model import Frame, Patch, Segment, Slot, Stage, ViewPanel
from llava_viewer.one_grid import IMAGE
from llava_viewer.usual import LEAST_WORDS, OWN_TIMES, ordinary_answer_rows, others_times, verdict_of
from llava_wire.choose import mean_image_share, ordinary_rows, split_view
from llava_wire.codes.blocks import BLOCK, KEPT
from llava_wire.codes.quantize import written
from llava_wire.geometry import Geometry
from llava_wire.record import Record
from llava_wire.view import View

MAX_STATIC_FRAMES = 480
"""A view whose single maps are more than this has them in an atlas, which needs the page's script."""
LOW_IMAGE_SHARE = 0.05
FLAT_TIMES = 2.0
LIMITS = f"{LOW_IMAGE_SHARE} {FLAT_TIMES:g} {OWN_TIMES:g} {LEAST_WORDS}"
"""The limits of verdicts, as the page's script is given them."""
TOP_PATCHES = 3
SHARE_PARTS: tuple[tuple[str, str], ...] = (("b", "first token"), ("i", "image"), ("p", "prompt"), ("a", "answer"))
"""The parts of a row's attention as (style, label), in the order of the record's shares."""
_SEPARATORS = ("e", "separators")
"""One more behind these where the images have tokens that are in no grid."""
GRID_PARTS = (SHARE_PARTS[0], ("i", "this grid"), *SHARE_PARTS[2:], ("o", "other grids"))
"""The same where one of several grids is shown; the last is what the others lack to 1."""


def share_parts(shares: int, *, alone: bool) -> tuple[tuple[str, str], ...]:
    """The parts of so many shares; `alone` as in `Grid`."""
    names = SHARE_PARTS if alone else GRID_PARTS
    own = len(SHARE_PARTS)
    return (*names[:own], *([_SEPARATORS] if shares > own else []), *names[own:])


@dataclass(frozen=True)
class Grid:
    """What frames need of the geometry: patch_rects [row, col, 4] original px, outside [row, col] bool (padding).

    `alone` is False where the record has other grids, so that not all attention on the image lies here.
    """

    patch_rects: npt.NDArray[np.float64]
    outside: npt.NDArray[np.bool_]
    alone: bool

    @classmethod
    def of(cls, geometry: Geometry, *, alone: bool, composite: bool = False) -> Grid:
        """What frames need of a grid; outermost cells of a composite lie on the image in part, and are no padding."""
        rects = geometry.patch_rects()
        centre_x, centre_y = (rects[..., 0] + rects[..., 2]) / 2, (rects[..., 1] + rects[..., 3]) / 2
        width, height = geometry.width_px, geometry.height_px
        outside = (centre_x < 0) | (centre_x > width) | (centre_y < 0) | (centre_y > height)
        return cls(rects, outside & (not composite), alone)


def build_panel(
    record: Record,
    view: View,
    index: int,
    keys: Sequence[str],
    grid: Grid,
    stage: Stage,
    label: str = "",
    sinks: npt.NDArray[np.bool_] | None = None,
) -> ViewPanel:
    """One view's panel. `keys` holds the row key of each query; `label` is the view's own name; sinks: [row, col]."""
    maps, shares = split_view(view)
    unit = unit_of(view)
    has_rows = "query" in view.axes
    row_keys = list(keys) if has_rows else [""]
    names = slot_names(view.facts)
    notes = [said] if (said := method_summary(view.facts.method)) else []
    if not has_rows:
        notes.append("One map for the whole answer: choosing a word changes the word's facts, not the map.")
    chosen: list[int | None] = [0]
    atlas = None
    if len(names) > 1:
        chosen = [None]
        notes.append(f"The mean of the {len(names):,} maps was computed by this report; the gallery shows it.")
        if len(names) * len(row_keys) <= MAX_STATIC_FRAMES:
            chosen += range(len(names))
        elif view.kept is not None and shares is not None:
            atlas = block_atlas(f"v{index}", view, shares, row_keys)
        else:
            atlas = build_atlas(f"v{index}", *unit.grey(maps), shares, row_keys)
    if view.kept is not None:
        notes.append(_of_blocks(view, unit))
    slots = []
    words = ordinary_answer_rows(record.facts) if has_rows else []
    counted = ordinary_rows(record.queries, record.tokens) if has_rows else [0]
    for number, slot in enumerate(chosen):
        slot_maps = maps.mean(axis=1) if slot is None else maps[:, slot]
        slot_shares = None
        if shares is not None:
            slot_shares = shares.mean(axis=1) if slot is None else shares[:, slot]
        name = f"mean of {len(names):,}" if slot is None else names[slot]
        mean = None
        if slot_shares is not None:
            mean = float(slot_shares[counted, 1].mean()) if counted else 0.0
        key = f"s{index}-{number}"
        splits = _splits(view, slot, unit)
        slots.append(_slot(key, name, mean, slot_maps, slot_shares, splits, row_keys, grid, unit, words, sinks))
    prompt, place = len(record.facts.prompt.ids), IMAGE if grid.alone else "this grid"
    facts, several = view.facts, len(names) > 1
    return ViewPanel(
        key=f"v{index}",
        name=view.name,
        label=label or view.name,
        stage=stage,
        layers=" ".join(map(str, facts.layers)) if several and "layer" in view.axes else "",
        heads=" ".join(map(str, facts.heads)) if several and "head" in view.axes else "",
        pairs=" ".join(f"{layer}.{head}" for layer, head in facts.pairs) if several else "",
        selection=selection_text(facts, record.facts.model),
        reduction=reduction_text(facts),
        mean_share="" if shares is None else wording.percent(mean_image_share(record.facts, view) or 0.0),
        has_rows=has_rows,
        error=wording.exact(facts.error_bound + _page_error(view, maps, atlas, alone=grid.alone)),
        slots=tuple(slots),
        atlas=atlas,
        notes=tuple(notes),
        measured=method_text(facts.method, view.quantity),
        unit=view.quantity.unit,
        per_patch=unit.per_patch,
        tokens="" if stage.composite else f"{view.patches:,} of the prompt's {prompt:,} tokens are {place}",
        share=unit.is_share,
        split=len(SHARE_PARTS) if shares is None else shares.shape[-1],
        signed=unit.signed,
        sinks=() if sinks is None else tuple((int(row), int(col)) for row, col in np.argwhere(sinks)),
    )


def _of_blocks(view: View, unit: Unit) -> str:
    """What a map in blocks shows."""
    kept = min(KEPT, view.patches)
    bound = "" if view.facts.block_error_bound is None else f", right within {unit.error(view.facts.block_error_bound)}"
    return (
        f"These maps are stored in blocks: of each the {kept} largest patches are exact; every other patch shows the "
        f"mean of what is left of its block of {BLOCK} × {BLOCK} patches, whose sum is stored{bound}."
    )


def _page_error(view: View, maps: npt.NDArray[np.float32], atlas: Atlas | None, *, alone: bool) -> float:
    """What the page's own coding adds to the error of a value: nothing for maps that are stored in its codes alone.

    A part of a map has another scale than the map and so other codes.
    """
    unit = unit_of(view)
    in_blocks = atlas is not None and atlas.kept > 0
    shown = [] if in_blocks or (alone and view.facts.encoding == written("uint8")) else [maps]
    if maps.shape[1] > 1:
        shown.append(maps.mean(axis=1))
    errors = [float(np.abs(unit.values(*unit.grey(one)) - one).max(initial=0.0)) for one in shown]
    return max([ATLAS_ERROR * float(maps.max(initial=0.0)) if in_blocks else 0.0, *errors])


def _slot(
    key: str,
    name: str,
    mean_share: float | None,
    maps: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32] | None,
    splits: Sequence[str],
    row_keys: Sequence[str],
    grid: Grid,
    unit: Unit,
    words: Sequence[int],
    sinks: npt.NDArray[np.bool_] | None,
) -> Slot:
    """maps [row of the table, row, col], shares [row of the table, name] and splits as frames."""
    grey, peaks = unit.grey(maps)
    largest = float(peaks.max(initial=0.0))
    verdicts = [""] * len(row_keys)
    if shares is not None:
        read = unit.values(grey, peaks)
        place, times = IMAGE if grid.alone else "this grid", others_times(read, words)
        judged = [
            verdict_of(read[i], float(shares[i, 1]), times[i], sinks, LOW_IMAGE_SHARE, FLAT_TIMES)
            for i in range(len(read))
        ]
        verdicts = [wording.map_verdict(*one, place) for one in judged]
    frames = (
        _frame(
            row_key,
            f"{key}-{row_key or 'all'}",
            maps[number],
            grey[number],
            float(peaks[number]),
            largest,
            None if shares is None else shares[number],
            grid,
            unit,
        )
        for number, row_key in enumerate(row_keys)
    )
    told = "" if mean_share is None else wording.percent(mean_share)
    told_apart = tuple(
        replace(one, split=split, verdict=verdict) for one, split, verdict in zip(frames, splits, verdicts, strict=True)
    )
    return Slot(key, name, told, unit.scale(largest), told_apart)


def _splits(view: View, slot: int | None, unit: Unit) -> list[str]:
    """What each row's total splits into in a slot, or in the mean of all; empty where the view says nothing of it."""
    rows = view.lead[0] if "query" in view.axes else 1
    if view.parts is None:
        return [""] * rows
    parts = view.parts.reshape(rows, -1, len(view.facts.parts)).astype(np.float64)
    chosen = parts.mean(axis=1) if slot is None else parts[:, slot]
    return [unit.split(view.facts.parts, row) for row in chosen.tolist()]


def _frame(
    row_key: str,
    image_id: str,
    heat: npt.NDArray[np.float32],
    grey: npt.NDArray[np.uint8],
    peak: float,
    largest: float,
    shares: npt.NDArray[np.float32] | None,
    grid: Grid,
    unit: Unit,
) -> Frame:
    """One map with what is said of it; an even spread and parts of a row are said of shares alone."""
    image_share = float(shares[1]) if shares is not None else 0.0
    uniform = image_share / heat.size
    row, col = unit.brightest(heat)
    x0, y0 = grid.patch_rects[row, col, :2]
    parts = [0.0] * len(SHARE_PARTS) if shares is None else shares.tolist()
    part = peak / largest if largest > 0 else 1.0
    return Frame(
        row_key=row_key,
        image_id=image_id,
        uri=data_uri(grey_png(grey)),
        numbers=" ".join(wording.exact(value) for value in (peak, *parts)),
        # Square-root codes scale with the root; those of signed maps are linear.
        shared=wording.plain(part if unit.signed else math.sqrt(part)) if largest > 0 else "1",
        maximum_text=unit.scale(peak),
        uniform_text="" if shares is None else wording.percent(uniform),
        uniform_at=wording.mark_at(uniform, peak),
        shared_uniform_at=wording.mark_at(uniform, largest),
        times_text=_times(peak, uniform) if shares is not None else "",
        peak_x=wording.plain(float(x0)),
        peak_y=wording.plain(float(y0)),
        peak_text=unit.text(float(heat[row, col])),
        image_share="" if shares is None else wording.percent(image_share),
        segments=() if shares is None else _segments(shares, alone=grid.alone),
        # Numbers of other quantities are those that the page's script reads, so that both say the same.
        top=_top_patches(heat if unit.is_share else unit.values(grey, np.asarray(peak, np.float32)), uniform, unit),
        warnings=tuple(_warnings(heat, image_share, peak, uniform, grid)) if shares is not None else (),
    )


def _times(value: float, uniform: float) -> str:
    return wording.times(value / uniform) if uniform > 0 else "–"


def _segments(shares: npt.NDArray[np.float32], *, alone: bool) -> tuple[Segment, ...]:
    names = share_parts(len(shares), alone=alone)
    if not alone:
        rest = max(0.0, 1 - float(shares.sum(dtype=np.float64)))
        shares = np.append(shares, np.float32(rest))
    ends = np.cumsum(shares, dtype=np.float64) / (float(shares.sum()) or 1.0)
    return tuple(
        Segment(style, wording.percent(share), wording.plain(round(100 * end, 1)))
        for (style, _), share, end in zip(names, shares.tolist(), ends.tolist(), strict=True)
    )


def _top_patches(heat: npt.NDArray[np.float32], uniform: float, unit: Unit) -> tuple[Patch, ...]:
    """The brightest patches, brightest first, of signed maps by size; equal ones in reading order."""
    order = np.argsort(-np.abs(heat) if unit.signed else -heat, axis=None, kind="stable")[:TOP_PATCHES]
    patches = []
    for flat in order:
        row, col = divmod(int(flat), heat.shape[1])
        value = float(heat[row, col])
        patches.append(Patch(f"{row}, {col}", unit.text(value), _times(value, uniform) if unit.is_share else ""))
    return tuple(patches)


def low_share_text(image_share: float, place: str) -> str:
    """What must stand beside a map that is nearly no evidence; "" beside any other. `place`: where the share lies."""
    if image_share >= LOW_IMAGE_SHARE:
        return ""
    return f"Only {wording.percent(image_share)} of the attention is on {place}: this map is nearly no evidence."


def _warnings(heat: npt.NDArray[np.float32], image_share: float, peak: float, uniform: float, grid: Grid) -> list[str]:
    found = []
    if low := low_share_text(image_share, IMAGE if grid.alone else "this grid"):
        found.append(low)
    if 0 < peak < FLAT_TIMES * uniform:
        found.append(
            f"The map is nearly even: its brightest patch has only {wording.times(peak / uniform)} an even share."
        )
    total = float(heat.sum())
    padded = float(heat[grid.outside].sum()) / total if total > 0 else 0.0
    if padded >= 0.01:
        whose = "the image attention" if grid.alone else "this grid's attention"
        found.append(f"{wording.percent(padded)} of {whose} lies on padding outside the image.")
    return found
