"""What a report shows, as frozen dataclasses with the numbers already formatted; templates hold no arithmetic.

Flow: `Record` -> `llava_viewer.pages.assemble` -> `Report` -> templates. A report has rows (tokens that can be
chosen) and views; a view has one or more slots (one map per row each); a frame is one map of one row in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_viewer.look.heatmap import Atlas

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
class Took:
    """What becomes of a word with some patches alone and hidden: which, labels with values, how not to read them."""

    title: str
    figures: tuple[tuple[str, str], ...]
    caution: str


WordRead = tuple[str, str, int]
"""A word that a row read: its text, how much as text, and as a level of the largest."""


@dataclass(frozen=True)
class Reads:
    """Words that a row read most in a view of text, in reading order; `total`: what all got, where it has a meaning."""

    title: str
    prompt: tuple[WordRead, ...]
    answer: tuple[WordRead, ...]
    total: str


@dataclass(frozen=True)
class Row:
    """One token of the answer or of the question, in reading order.

    Args:
        key: the id of its radio button, or "" when the record holds no attention for it.
        text: what is shown, never empty; spaced: a space goes before it; breaks: a new line starts after it.
        word: the whole word when this is a piece of one, else "".
        group: the same for all pieces of one word, "" for a word of its own.
        levels: the image share under it, one level per view (0 for a view without rows).
        probability_level: the same for its probability; for a question's token both are 0.
        where: "token 7 of 12, step 7".
        without_image: its probability without the image; empty where that was not tested, as the next two are 0 and "".
        lost_level: how much of its probability is lost without the image, as a level.
        need: whether it needs the image, in words.
        took: its probability with some patches alone and hidden; None where that was not tested.
        reads: which words it read, of each view of text.
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
    without_image: str = ""
    lost_level: int = 0
    need: str = ""
    took: Took | None = None
    reads: tuple[Reads, ...] = ()
    group: str = ""


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
        numbers: maximum and how the row splits (0 where it does not) as float32 in full, for the script.
        shared: this map's maximum over the slot's largest, as a part of its grey levels, for the shared scale.
        peak_x, peak_y: the corner of the brightest patch, original px; peak_text: its value.
        split: what the row's total splits into, in one line, where the view says so.
        onto: of several grids, how the row's attention splits over images and grids, a line each.
        verdict: what the map is worth, in a line; of shares alone.
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
    split: str = ""
    onto: tuple[Patch, ...] = ()
    verdict: str = ""


@dataclass(frozen=True)
class Slot:
    """One map per row: a view's only one, the mean over its layers or heads, or one layer, head or pair."""

    key: str
    name: str
    mean_share: str
    shared_maximum_text: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class ViewPanel:
    """One of the record's views; of several grids, its part on one of them.

    Args:
        label: the view's own name, without that of a grid.
        stage: the grid that its maps lie on.
        layers, heads, pairs: what its kept axes hold, for the pickers: "0 1 2", "14.24 14.13", or "".
        slots: what works without the script: the only map per row, or the mean and, where they are few, all others.
        atlas: the single maps, when they are too many for slots of their own.
        error: the largest error of a value that the page's script reads, the record's own included.
        notes: what was averaged or left out.
        measured: method and quantity in words; unit, per_patch: of the values, empty for shares of attention.
        tokens: how many of the prompt's its patches are; split: into how many shares a row splits.
        share, signed: whether values are shares, or may be below 0; sinks: row and column of patches that all read.
    """

    key: str
    name: str
    label: str
    stage: Stage
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
    tokens: str
    share: bool
    signed: bool
    sinks: tuple[tuple[int, int], ...] = ()
    split: int = 4


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
        key, name: in a report of several grids which one it is ("g0"), else "".
        composite: whether it is made of several grids of its image.
        suffix: of the ids of what is drawn with it; picture_suffix: of the picture's, which stands in the page once,
            with the first grid on it.
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
    key: str = ""
    name: str = ""
    composite: bool = False
    suffix: str = ""
    picture_suffix: str = ""

    @property
    def holds_picture(self) -> bool:
        """Whether the picture stands in the page with this grid."""
        return self.suffix == self.picture_suffix


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
    stages: tuple[Stage, ...]
    share_parts: tuple[tuple[str, str], ...]
    groups: tuple[FactGroup, ...]

    @property
    def stage(self) -> Stage:
        """The grid that the page opens with."""
        return self.stages[0]

    @property
    def tested(self) -> bool:
        """Whether it was tested which words need the image."""
        return any(row.need for row in self.rows)

    @property
    def grids(self) -> int:
        """How many grids the record has."""
        return sum(not stage.composite for stage in self.stages)

    @property
    def in_blocks(self) -> bool:
        """Whether an atlas has maps in blocks."""
        return any(view.atlas and view.atlas.kept for view in self.views)

    @property
    def several(self) -> bool:
        """Whether the record has several grids, of which one is shown at a time."""
        return len(self.stages) > 1
