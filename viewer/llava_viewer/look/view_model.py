"""What a report shows, as frozen dataclasses with the numbers already formatted; templates hold no arithmetic.

Flow: `Record` -> `llava_viewer.pages.assemble` -> `Report` -> templates. A report has rows (tokens that can be
chosen) and views; a view has one or more slots (one map per row each); a frame is one map of one row in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = 20
"""Bars under tokens and candidates have this many steps; a level is 0..LEVELS."""


@dataclass(frozen=True)
class Candidate:
    """One of the most probable tokens at a step."""

    text: str
    probability: str
    level: int
    chosen: bool


@dataclass(frozen=True)
class Row:
    """One token of the answer or of the question, in reading order.

    Args:
        key: the id of its radio button, or "" when the record holds no attention for it.
        text: what is shown, never empty; spaced: a space goes before it; breaks: a new line starts after it.
        word: the whole word when this is a piece of one, else "".
        levels: the image share under it, one level per view (0 for a view without rows).
        probability_level: the same for its probability; for a question's token both are 0.
        where: "token 7 of 12, step 7".
    """

    key: str
    query: int
    text: str
    word: str
    spaced: bool
    breaks: bool
    special: bool
    levels: tuple[int, ...]
    probability_level: int
    piece: str
    token_id: str
    where: str
    probability: str
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class Segment:
    """One part of the share bar; `until` is where it ends, 0..100, and `name` is its one-letter style."""

    name: str
    text: str
    until: str


@dataclass(frozen=True)
class Patch:
    """One of the brightest patches."""

    where: str
    share: str
    times: str


@dataclass(frozen=True)
class Frame:
    """One map.

    Args:
        row_key: the row it belongs to, or "" for a map of the whole answer.
        image_id, uri: the grey PNG of square-root codes, 255 = the maximum.
        numbers: maximum and the four shares (0 where there are none) as float32 in full, for the script.
        shared: this map's maximum over the slot's largest, as a part of its grey levels, for the shared scale.
        peak_x, peak_y: the corner of the brightest patch, original px; peak_text: its value.
        uniform_text, times_text, image_share, segments: of shares alone, else empty.
        uniform_at, shared_uniform_at: where an even spread lies on the legend, 0..100.
    """

    row_key: str
    image_id: str
    uri: str
    numbers: str
    shared: str
    maximum_text: str
    uniform_text: str
    uniform_at: str
    shared_uniform_at: str
    times_text: str
    peak_x: str
    peak_y: str
    peak_text: str
    image_share: str
    segments: tuple[Segment, ...]
    top: tuple[Patch, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Slot:
    """One map per row: a view's only one, the mean over its layers or heads, or one layer, head or pair."""

    key: str
    name: str
    mean_share: str
    shared_maximum_text: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Block:
    """A piece of packed data that the page's script finds by its id."""

    block_id: str
    text: str


@dataclass(frozen=True)
class Atlas:
    """The maps of single layers and heads of a view: one block with their maxima and shares, then one per row."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ViewPanel:
    """One of the record's views.

    Args:
        layers, heads, pairs: what its kept axes hold, for the pickers: "0 1 2", "14.24 14.13", or "".
        slots: what works without the script: the only map per row, or the mean and, where they are few, all others.
        atlas: the single maps, when they are too many for slots of their own.
        error: the largest error of a value that the page's script reads, the record's own included.
        notes: what was averaged or left out.
        measured: method and quantity in words; unit, per_patch: of the values, empty for shares of attention.
        share, signed: whether values are shares of a row; whether they may be below 0.
    """

    key: str
    name: str
    layers: str
    heads: str
    pairs: str
    selection: str
    reduction: str
    mean_share: str
    has_rows: bool
    error: str
    slots: tuple[Slot, ...]
    atlas: Atlas | None
    notes: tuple[str, ...]
    measured: str
    unit: str
    per_patch: str
    share: bool
    signed: bool


@dataclass(frozen=True)
class Area:
    """A rectangle on the stage, original px."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Stage:
    """The picture's frame: sizes in original px, ready for SVG attributes.

    Args:
        view_box: the picture, and the padding around it where the model saw one.
        to_grid: the transform that maps patch units onto the patch grid's rectangle;
        grid_numbers: that rectangle's x0, y0, x1, y1 in full, for the script.
        unit: how many original px one screen px is, about; patterns are drawn to it.
        unseen: parts of the picture that no patch covers; padding: parts of the grid outside the picture.
    """

    width_px: int
    height_px: int
    view_box: str
    photo_uri: str
    thumb_uri: str
    to_grid: str
    grid_numbers: str
    rows: int
    cols: int
    patch: Area
    unit: str
    seen: Area
    unseen: tuple[Area, ...]
    padding: tuple[Area, ...]
    seen_text: str
    unseen_text: str
    padding_text: str
    description: str


@dataclass(frozen=True)
class Fact:
    """One line of the metadata; `kind` is "text", "code" or "block"."""

    label: str
    value: str
    kind: str = "text"


@dataclass(frozen=True)
class FactGroup:
    """A headed list of facts."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Report:
    """Everything a report shows."""

    title: str
    direction: str
    prompt: str
    model: str
    revision: str
    summary: tuple[Fact, ...]
    notes: tuple[str, ...]
    question_rows: tuple[Row, ...]
    rows: tuple[Row, ...]
    first_key: str
    special_count: str
    views: tuple[ViewPanel, ...]
    stage: Stage
    groups: tuple[FactGroup, ...]
