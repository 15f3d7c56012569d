"""Two to four runs on one picture and one grid: `Pick`s -> `Comparison` -> compare.html.

Flow: records with a view, layer and head -> the same picture and patches? -> one map per token and run, on one scale
when asked -> differences of the whole answers -> one HTML file under the same policy as a report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from llava_viewer.export.shown import Shown, show
from llava_viewer.look import colormap, wording
from llava_viewer.look.frames import low_share_text
from llava_viewer.look.heatmap import coding_error, data_uri, grey_png, to_grey
from llava_viewer.look.photo import page_photo
from llava_viewer.look.stage import build_stage
from llava_viewer.look.text import direction
from llava_viewer.look.units import shares_of
from llava_viewer.one_grid import on_one_grid, place
from llava_viewer.pages.compare_model import WHOLE_KEY, Choice, Comparison, Contrast, Difference, Run
from llava_viewer.pages.report import MAX_BYTES, ReportTooLargeError, page
from llava_viewer.pages.styles import plain_compare_css, script_text, static_text
from llava_wire.record import Record

LETTERS = "abcd"
MAX_WORDS = 8000
"""Tokens of all runs; each has a picture, and more would not fit into a page."""
FLOOR_TIMES = 2
"""A difference's scale ends at this times its floor or above; the pages' scripts say the same."""


@dataclass(frozen=True)
class Pick:
    """One run to compare: a record, its name on the page, and what of it is shown; a grid where it has several."""

    record: Record
    name: str
    view: str | None = None
    layer: int | None = None
    head: int | None = None
    grid: str | int | None = None

    @cached_property
    def shown(self) -> Record:
        """The record, of several grids its part on the one that is compared."""
        return on_one_grid(self.record, self.grid)


@dataclass(frozen=True)
class _Top:
    """The largest value of all runs' whole answers and of all runs' words: the tops of the shared scales."""

    whole: float
    word: float


class CompareError(ValueError):
    """Runs that cannot be laid side by side; the message names what differs."""


def render_compare(picks: Sequence[Pick], *, title: str | None = None, embed_image: bool = True) -> str:
    """The complete HTML text of a comparison; the same picks give the same text.

    Raises:
        CompareError: not 2 to 4 runs, or runs on other pictures or grids.
        ValueError: a record does not hold the view, layer or head.
        ReportTooLargeError: the text would be over 25 MB.
    """
    check_comparable(picks)
    comparison = build_comparison(picks, title=title, embed_image=embed_image)
    html = page(
        "compare.html.j2",
        css=(static_text("base.css") + static_text("compare.css"), plain_compare_css(comparison)),
        scripts=(f'"use strict";\n{script_text("wording")}{static_text("compare.js")}',),
        it=comparison,
        palettes=[_tables(name) for name in colormap.PALETTES],
        diverging=_tables(colormap.DIFFERENCE),
        alpha_table=colormap.alpha_table(),
        spot_table=colormap.alpha_table(inverse=True),
        difference_table=colormap.difference_alpha_table(),
    )
    number_bytes = len(html.encode("utf-8"))
    if number_bytes > MAX_BYTES:
        raise ReportTooLargeError(
            f"compare: got {wording.size(number_bytes)}, expected {wording.size(MAX_BYTES)}; "
            "compare fewer runs, or runs with fewer steps, or leave the image out (--no-image)"
        )
    return html


def check_comparable(picks: Sequence[Pick]) -> None:
    """Raises `CompareError` unless 2 to 4 runs share the picture and the patches on it."""
    if not 2 <= len(picks) <= len(LETTERS):
        raise CompareError(f"compare: got {wording.count(len(picks), 'run')}, expected 2 to {len(LETTERS)}")
    first = picks[0]
    for other in picks[1:]:
        for what, remedy, facts in (
            ("grids", "compare runs of models with one patch grid, or export each (llava-viewer export)", _grid),
            ("images", "compare runs that were asked about one image", _image),
            ("ways to cut the image into patches", "compare runs with one image processor", _patches),
        ):
            here, there = facts(first.shown), facts(other.shown)
            if here != there:
                raise CompareError(
                    f"compare: got {what} {here} ({first.name}) and {there} ({other.name}), expected the same for all; "
                    f"{remedy}"
                )


def build_comparison(picks: Sequence[Pick], *, title: str | None, embed_image: bool) -> Comparison:
    """Everything the template shows."""
    tokens = sum(len(pick.record.tokens) for pick in picks)
    if tokens > MAX_WORDS:
        raise ReportTooLargeError(f"compare: got {tokens} tokens, expected {MAX_WORDS}; compare fewer runs, or shorter")
    shown = [show(pick.shown, view=pick.view, layer=pick.layer, head=pick.head) for pick in picks]
    for one in shown:
        shares_of(one.view, "compare")
    whole = [_whole(one) for one in shown]
    top = _Top(
        whole=max(float(heat.max(initial=0)) for heat, _ in whole),
        word=max((item.peak for one in shown for item in one.items), default=0.0),
    )
    notes = [
        f"{letter.upper()}: {note.text}"
        for letter, pick in zip(LETTERS, picks, strict=False)
        for note in pick.record.facts.notes
    ]
    runs = tuple(
        _run(letter, pick.name, heading, one, mean, top)
        for letter, pick, heading, one, mean in zip(LETTERS, picks, _headings(picks, shown), shown, whole, strict=False)
    )
    errors = [float(run.choices[0].error) for run in runs]
    differences = tuple(
        _difference(letter, whole[0][0] - mean[0], errors[0] + error)
        for letter, mean, error in zip(LETTERS[1:], whole[1:], errors[1:], strict=False)
    )
    words = [[(choice.number, choice.text) for choice in run.choices] for run in runs]
    prompts = list(dict.fromkeys(pick.record.facts.prompt.text for pick in picks))
    return Comparison(
        title=title or (prompts[0] if len(prompts) == 1 else " / ".join(prompts)) or "Comparison",
        runs=runs,
        differences=differences,
        contrasts=_contrasts(picks, shown),
        stage=build_stage(picks[0].shown.geometry, *_photo(picks, embed_image, notes)),
        together=all(one == words[0] for one in words),
        notes=tuple(notes),
    )


def _whole(shown: Shown) -> tuple[npt.NDArray[np.float32], float]:
    """The mean map and image share over the answer's ordinary tokens."""
    items = shown.ordinary()
    return np.mean([item.heat for item in items], axis=0, dtype=np.float32), float(
        np.mean([item.image_share for item in items])
    )


def _headings(picks: Sequence[Pick], shown: Sequence[Shown]) -> list[str]:
    """What each run is called: by the first of question, model, what is shown and file that is not the same for all."""
    facts = (
        [pick.record.facts.prompt.text for pick in picks],
        [pick.record.facts.model.name for pick in picks],
        [_shown(one) for one in shown],
        [pick.name for pick in picks],
    )
    return next((values for values in facts if len(set(values)) > 1), facts[0])


def _shown(shown: Shown) -> str:
    """ "next-object, layer 2, head 7"."""
    named = [
        f"{axis} {number}" for axis, number in (("layer", shown.layer), ("head", shown.head)) if number is not None
    ]
    return ", ".join([shown.view.name, *named])


def _run(
    letter: str, name: str, heading: str, shown: Shown, whole: tuple[npt.NDArray[np.float32], float], top: _Top
) -> Run:  # fmt: skip
    record = shown.record
    answered = any(item.row is None or item.row.key.startswith("t") for item in shown.items)
    word = "whole answer" if answered else "whole question"
    bound = shown.view.facts.error_bound
    choices = [_choice(f"{letter}-{WHOLE_KEY}", WHOLE_KEY, word, *whole, top.whole, bound, where=place(record))]
    for item in shown.items:
        row = item.row
        if row is not None and row.key.startswith("t"):
            number = row.key[1:]
            made = _choice(f"{letter}-{row.key}", number, row.text, item.heat, item.image_share, top.word, bound,
                           where=place(record), spaced=row.spaced, breaks=row.breaks, special=row.special)  # fmt: skip
            choices.append(made)
    return Run(
        letter=letter,
        name=name,
        heading=heading or "(no question)",
        direction=direction(record.answer),
        model=wording.at_revision(record.facts.model.name, record.facts.model.revision),
        selection=shown.selection,
        choices=tuple(choices),
    )


def _choice(
    key: str,
    number: str,
    text: str,
    heat: npt.NDArray[np.float32],
    share: float,
    largest: float,
    bound: float,
    *,
    where: str,
    spaced: bool = False,
    breaks: bool = False,
    special: bool = False,
) -> Choice:
    grey, peaks = to_grey(heat[None])
    peak, uniform = float(peaks[0]), share / heat.size
    return Choice(
        key=key,
        number=number,
        text=text,
        spaced=spaced,
        breaks=breaks,
        special=special,
        uri=data_uri(grey_png(grey[0])),
        maximum=wording.exact(peak),
        error=wording.exact(bound + coding_error(heat[None], grey, peaks)),
        shared=wording.plain(math.sqrt(peak / largest)) if largest > 0 else "1",
        maximum_text=wording.percent(peak),
        shared_text=wording.percent(largest),
        uniform_text=wording.percent(uniform),
        uniform_at=wording.mark_at(uniform, peak),
        shared_uniform_at=wording.mark_at(uniform, largest),
        image_share=wording.percent(share),
        place=where,
        times_text=wording.times(peak / uniform) if uniform > 0 else "–",
        warning=low_share_text(share, where),
    )


def _difference(letter: str, heat: npt.NDArray[np.float32], floor: float) -> Difference:
    """heat [row, col] float32, the first run's mean map minus this run's.

    Differences up to `floor`, what both maps may be off by, are none; the scale never ends below twice that.
    """
    sure = np.where(np.abs(heat) > floor, heat, np.float32(0))
    most = float(np.abs(sure).max(initial=0.0))
    top = max(most, FLOOR_TIMES * floor) or 1.0
    grey = np.rint(128 + 127 * sure / top).astype(np.uint8)
    return Difference(
        letter, data_uri(grey_png(grey)), wording.plain(top), wording.percent(top), wording.percent(floor), most > 0
    )


def _contrasts(picks: Sequence[Pick], shown: Sequence[Shown]) -> tuple[Contrast, ...]:
    """What a reader must know to compare: every fact of every run, the ones that differ first."""
    rows: dict[str, list[str]] = {
        "File": [pick.name for pick in picks],
        "Question": [pick.record.facts.prompt.text for pick in picks],
        "Answer": [pick.record.answer for pick in picks],
        "Model": [pick.record.facts.model.name for pick in picks],
        "Revision": [pick.record.facts.model.revision for pick in picks],
        "Run with": [
            f"{m.dtype}, {m.attention}, {m.device}" for m in (pick.record.facts.model for pick in picks)
        ],
        "Shown": [one.selection for one in shown],
        "Template": [pick.record.facts.prompt.template for pick in picks],
        "Sampling": [
            ", ".join(f"{key} {value}" for key, value in pick.record.facts.sampling.items()) or "greedy"
            for pick in picks
        ],
        "Largest error of a value": [wording.error_bound(one.view.facts.error_bound) for one in shown],
    }  # fmt: skip
    made = [Contrast(label, tuple(values), len(set(values)) > 1) for label, values in rows.items()]
    return tuple(sorted(made, key=lambda contrast: not contrast.differs))


def _photo(picks: Sequence[Pick], embed_image: bool, notes: list[str]) -> tuple[str, str]:
    """The picture of the first run that carries one, as (photo, thumbnail) data URIs, or empty ones."""
    own = next((pick.shown.picture[1] for pick in picks if pick.shown.picture), None)
    without = "None of these records carries the image"
    photo, note = page_photo(own, carried=True, embed_image=embed_image, page="page", without=without)
    if photo is None:
        notes.append(note)
        return "", ""
    return photo.uri, photo.thumb_uri


def _grid(record: Record) -> str:
    return f"{record.geometry.rows} × {record.geometry.cols}"


def _image(record: Record) -> str:
    image = record.facts.image
    return f"{image.width_px} × {image.height_px} px {image.pixels_sha256[:12]}"


def _patches(record: Record) -> str:
    steps = record.geometry.steps
    return "; ".join(f"{s.op} {s.width_px} × {s.height_px} at ({s.left_px}, {s.top_px})" for s in steps) or "as it is"


def _tables(name: str) -> dict[str, object]:
    red, green, blue = colormap.filter_tables(name)
    return {"name": name, "red": red, "green": green, "blue": blue, "gradient": colormap.gradient(name)}
