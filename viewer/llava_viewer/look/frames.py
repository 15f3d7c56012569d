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
from llava_viewer.look.heatmap import build_atlas, coding_error, data_uri, grey_png, to_grey
from llava_viewer.look.selection import reduction_text, selection_text, slot_names
from llava_viewer.look.units import shares_of
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
    shares_of(view, "report")
    maps, shares = split_view(view)
    assert shares is not None
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
            atlas = build_atlas(f"v{index}", maps, shares, row_keys)
    slots = []
    counted = ordinary_rows(record.queries, record.tokens) if has_rows else [0]
    for number, slot in enumerate(chosen):
        slot_maps = maps.mean(axis=1) if slot is None else maps[:, slot]
        slot_shares = shares.mean(axis=1) if slot is None else shares[:, slot]
        name = f"mean of {len(names):,}" if slot is None else names[slot]
        mean = float(slot_shares[counted, 1].mean()) if counted else 0.0
        key = f"s{index}-{number}"
        slots.append(_slot(key, name, mean, slot_maps, slot_shares, row_keys, grid))
    facts, several = view.facts, len(names) > 1
    return ViewPanel(
        key=f"v{index}",
        name=view.name,
        layers=" ".join(map(str, facts.layers)) if several and "layer" in view.axes else "",
        heads=" ".join(map(str, facts.heads)) if several and "head" in view.axes else "",
        pairs=" ".join(f"{layer}.{head}" for layer, head in facts.pairs) if several else "",
        selection=selection_text(facts, record.facts.model),
        reduction=reduction_text(facts),
        mean_share=wording.percent(mean_image_share(record.facts, view) or 0.0),
        has_rows=has_rows,
        error=wording.exact(facts.error_bound + _page_error(view, maps)),
        slots=tuple(slots),
        atlas=atlas,
        notes=tuple(notes),
    )


def _page_error(view: View, maps: npt.NDArray[np.float32]) -> float:
    """What the page's own coding adds to the error of a value: nothing for maps that are stored in its codes alone."""
    shown = [] if view.facts.encoding == written("uint8") else [maps]
    if maps.shape[1] > 1:
        shown.append(maps.mean(axis=1))
    return max((coding_error(one, *to_grey(one)) for one in shown), default=0.0)


def _slot(
    key: str,
    name: str,
    mean_share: float,
    maps: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
    row_keys: Sequence[str],
    grid: Grid,
) -> Slot:
    """maps [row of the table, row, col] and shares [row of the table, 4] as frames."""
    grey, peaks = to_grey(maps)
    largest = float(peaks.max(initial=0.0))
    frames = tuple(
        _frame(
            row_key,
            f"{key}-{row_key or 'all'}",
            maps[number],
            grey[number],
            float(peaks[number]),
            largest,
            shares[number],
            grid,
        )
        for number, row_key in enumerate(row_keys)
    )
    return Slot(key, name, wording.percent(mean_share), wording.percent(largest), frames)


def _frame(
    row_key: str,
    image_id: str,
    heat: npt.NDArray[np.float32],
    grey: npt.NDArray[np.uint8],
    peak: float,
    largest: float,
    shares: npt.NDArray[np.float32],
    grid: Grid,
) -> Frame:
    image_share = float(shares[1])
    uniform = image_share / heat.size
    row, col = np.unravel_index(int(heat.argmax()), heat.shape)
    x0, y0 = grid.patch_rects[row, col, :2]
    return Frame(
        row_key=row_key,
        image_id=image_id,
        uri=data_uri(grey_png(grey)),
        numbers=" ".join(wording.exact(value) for value in (peak, *shares.tolist())),
        shared=wording.plain(math.sqrt(peak / largest)) if largest > 0 else "1",
        maximum_text=wording.percent(peak),
        uniform_text=wording.percent(uniform),
        uniform_at=wording.mark_at(uniform, peak),
        shared_uniform_at=wording.mark_at(uniform, largest),
        times_text=wording.times(peak / uniform) if uniform > 0 else "–",
        peak_x=wording.plain(float(x0)),
        peak_y=wording.plain(float(y0)),
        image_share=wording.percent(image_share),
        segments=_segments(shares),
        top=_top_patches(heat, uniform),
        warnings=tuple(_warnings(heat, image_share, peak, uniform, grid)),
    )


def _segments(shares: npt.NDArray[np.float32]) -> tuple[Segment, ...]:
    ends = np.cumsum(shares, dtype=np.float64) / (float(shares.sum()) or 1.0)
    return tuple(
        Segment(style, wording.percent(share), wording.plain(round(100 * end, 1)))
        for (style, _), share, end in zip(SHARE_PARTS, shares.tolist(), ends.tolist(), strict=True)
    )


def _top_patches(heat: npt.NDArray[np.float32], uniform: float) -> tuple[Patch, ...]:
    """The brightest patches, brightest first; equal ones in reading order."""
    order = np.argsort(-heat, axis=None, kind="stable")[:TOP_PATCHES]
    patches = []
    for flat in order:
        row, col = divmod(int(flat), heat.shape[1])
        value = float(heat[row, col])
        times = wording.times(value / uniform) if uniform > 0 else "–"
        patches.append(Patch(f"{row}, {col}", wording.percent(value), times))
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
