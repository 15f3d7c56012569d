"""The maps of a record as frames: arrays -> grey PNGs, share bars, top patches and warnings, all formatted.

Flow: `View` -> [query, slot, row, col] -> `Slot`s of `Frame`s -> `ViewPanel`. What is left out is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_viewer.look import wording
from llava_viewer.look.heatmap import build_atlas, data_uri, grey_png
from llava_viewer.look.selection import reduction_text, selection_text, slot_names
from llava_viewer.look.units import Unit, method_text, unit_of
from llava_viewer.look.view_model import Frame, Patch, Segment, Slot, ViewPanel
from llava_wire.choose import mean_image_share, ordinary_rows, split_view
from llava_wire.codes.quantize import written
from llava_wire.record import Record
from llava_wire.view import View

MAX_STATIC_FRAMES = 480
"""A view whose single maps are more than this has them in an atlas, which needs the page's script."""
LOW_IMAGE_SHARE = 0.05
FLAT_TIMES = 2.0
TOP_PATCHES = 3
SHARE_PARTS = (("b", "first token"), ("i", "image"), ("p", "prompt"), ("a", "answer"))
"""The parts of a row's attention as (style, label), in the order of the record's shares."""


@dataclass(frozen=True)
class Grid:
    """What frames need of the geometry: patch_rects [row, col, 4] original px, outside [row, col] bool (padding)."""

    patch_rects: npt.NDArray[np.float64]
    outside: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, record: Record) -> Grid:
        rects = record.geometry.patch_rects()
        centre_x, centre_y = (rects[..., 0] + rects[..., 2]) / 2, (rects[..., 1] + rects[..., 3]) / 2
        width, height = record.geometry.width_px, record.geometry.height_px
        outside = (centre_x < 0) | (centre_x > width) | (centre_y < 0) | (centre_y > height)
        return cls(rects, outside)


def build_panel(record: Record, view: View, index: int, keys: Sequence[str], grid: Grid) -> ViewPanel:
    """One view's panel. `keys` holds the row key of each query."""
    maps, shares = split_view(view)
    unit = unit_of(view)
    has_rows = "query" in view.axes
    row_keys = list(keys) if has_rows else [""]
    names = slot_names(view.facts)
    notes: list[str] = []
    if not has_rows:
        notes.append("One map for the whole answer: choosing a word changes the word's facts, not the map.")
    chosen: list[int | None] = [0]
    atlas = None
    if len(names) > 1:
        chosen = [None]
        notes.append(
            f"The mean of the {len(names):,} maps was computed by this report; the record keeps them apart. "
            "The gallery shows the mean."
        )
        if len(names) * len(row_keys) <= MAX_STATIC_FRAMES:
            chosen += range(len(names))
        else:
            atlas = build_atlas(f"v{index}", *unit.grey(maps), shares, row_keys)
    slots = []
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
        slots.append(_slot(key, name, mean, slot_maps, slot_shares, row_keys, grid, unit))
    facts, several = view.facts, len(names) > 1
    return ViewPanel(
        key=f"v{index}",
        name=view.name,
        layers=" ".join(map(str, facts.layers)) if several and "layer" in view.axes else "",
        heads=" ".join(map(str, facts.heads)) if several and "head" in view.axes else "",
        pairs=" ".join(f"{layer}.{head}" for layer, head in facts.pairs) if several else "",
        selection=selection_text(facts, record.facts.model),
        reduction=reduction_text(facts),
        mean_share="" if shares is None else wording.percent(mean_image_share(record.facts, view) or 0.0),
        has_rows=has_rows,
        error=wording.exact(facts.error_bound + _page_error(view, maps)),
        slots=tuple(slots),
        atlas=atlas,
        notes=tuple(notes),
        measured=method_text(facts.method, view.quantity),
        unit=view.quantity.unit,
        per_patch=unit.per_patch,
        share=unit.is_share,
        signed=unit.signed,
    )


def _page_error(view: View, maps: npt.NDArray[np.float32]) -> float:
    """What the page's own coding adds to the error of a value: nothing for maps that are stored in its codes alone."""
    unit = unit_of(view)
    shown = [] if view.facts.encoding == written("uint8") else [maps]
    if maps.shape[1] > 1:
        shown.append(maps.mean(axis=1))
    return max((float(np.abs(unit.values(*unit.grey(one)) - one).max(initial=0.0)) for one in shown), default=0.0)


def _slot(
    key: str,
    name: str,
    mean_share: float | None,
    maps: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32] | None,
    row_keys: Sequence[str],
    grid: Grid,
    unit: Unit,
) -> Slot:
    """maps [row of the table, row, col] and shares [row of the table, 4] as frames."""
    grey, peaks = unit.grey(maps)
    largest = float(peaks.max(initial=0.0))
    frames = tuple(
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
    return Slot(key, name, told, unit.scale(largest), frames)


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
        segments=() if shares is None else _segments(shares),
        # Numbers of other quantities are those that the page's script reads, so that both say the same.
        top=_top_patches(heat if unit.is_share else unit.values(grey, np.asarray(peak, np.float32)), uniform, unit),
        warnings=tuple(_warnings(heat, image_share, peak, uniform, grid)) if shares is not None else (),
    )


def _times(value: float, uniform: float) -> str:
    return wording.times(value / uniform) if uniform > 0 else "–"


def _segments(shares: npt.NDArray[np.float32]) -> tuple[Segment, ...]:
    ends = np.cumsum(shares, dtype=np.float64) / (float(shares.sum()) or 1.0)
    return tuple(
        Segment(style, wording.percent(share), wording.plain(round(100 * end, 1)))
        for (style, _), share, end in zip(SHARE_PARTS, shares.tolist(), ends.tolist(), strict=True)
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


def _warnings(heat: npt.NDArray[np.float32], image_share: float, peak: float, uniform: float, grid: Grid) -> list[str]:
    found = []
    if image_share < LOW_IMAGE_SHARE:
        found.append(
            f"Only {wording.percent(image_share)} of the attention is on the image: "
            "however bright, this map is nearly no evidence."
        )
    if 0 < peak < FLAT_TIMES * uniform:
        found.append(
            f"The map is nearly even: its brightest patch has only {wording.times(peak / uniform)} an even share."
        )
    total = float(heat.sum())
    padded = float(heat[grid.outside].sum()) / total if total > 0 else 0.0
    if padded >= 0.01:
        found.append(f"{wording.percent(padded)} of the image attention lies on padding outside the picture.")
    return found
