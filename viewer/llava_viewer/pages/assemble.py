"""A record becomes a `Report`: rows, views, stages and metadata, all as finished text and numbers.

A record of several grids is shown one grid at a time: each of its views once for each grid, on that grid's stage, and
once for each composite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llava_viewer.look import text, wording
from llava_viewer.look.frames import Grid, build_panel, share_parts
from llava_viewer.look.photo import Photo, page_photo
from llava_viewer.look.provenance import causal_text, fact_groups
from llava_viewer.look.rows import answer_rows, first_row, need_told, question_rows, row_keys
from llava_viewer.look.stage import build_stage
from llava_viewer.look.view_model import Fact, Report, Stage, ViewPanel
from llava_viewer.one_grid import shown_grids, unfolded
from llava_viewer.pages.onto import with_lines
from llava_viewer.usual import ordinary_answer_rows, sinks_of
from llava_wire.choose import mean_image_share, ordinary_tokens
from llava_wire.findings.patches import PatchCheck
from llava_wire.geometry import Geometry
from llava_wire.grids import Grid as Lattice
from llava_wire.grids import span
from llava_wire.record import Record

_SEPARATORS = (
    "Some tokens of the image are in no grid (newlines and the like), and not every view tells what lies on them: in "
    "the shares of this page it counts as prompt."
)
Pictures = tuple[str, bytes] | bytes | Sequence[bytes]
"""A picture as (file name, bytes) or its bytes alone, or the bytes of each of a record's pictures."""


def build_report(
    record: Record,
    *,
    picture: Pictures | None = None,
    embed_image: bool = True,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Everything the templates show. `picture` goes before the record's own."""
    # What is true of the model at every answer comes behind what is true of this one: of several the first is in sight.
    of_model = [note.text for note in record.facts.notes if note.field == "model"]
    found = [*(note.text for note in record.facts.notes if note.field != "model"), *notes]
    stages = _stages(record, _photos(record, picture, embed_image, found))
    if record.facts.prompt.separators and not _tells_separators(record):
        record = replace(record, views={n: replace(view, separators=None) for n, view in record.views.items()})
        found.append(_SEPARATORS)
    found += of_model
    whole = unfolded(record)
    panels = _panels(record, whole, stages)
    rows, asked = answer_rows(whole), question_rows(whole)
    specials = sum(row.special for row in rows)
    model = record.facts.model
    return Report(
        title=title or record.facts.prompt.text or "Untitled",
        direction=text.direction(record.answer),
        prompt=record.facts.prompt.text,
        model=model.name,
        revision=model.revision,
        summary=_summary(record),
        notes=tuple(dict.fromkeys(found)) if len(stages) > 1 else tuple(found),
        question_rows=asked,
        rows=rows,
        first_key=first_row(whole, (*rows, *asked)),
        special_count=wording.count(specials, "special token") if specials else "",
        views=panels,
        stages=stages,
        share_parts=share_parts(max(panel.split for panel in panels), alone=len(stages) == 1),
        groups=fact_groups(record, stages[: len(record.grids)]),
    )


def _tells_separators(record: Record) -> bool:
    """Whether all views of shares tell what lies on separators; a page splits all rows alike."""
    return all(view.shares is None or view.separators is not None for view in record.views.values())


def _panels(record: Record, whole: Record, stages: Sequence[Stage]) -> tuple[ViewPanel, ...]:
    """The panels in the order of `unfolded`: all views on the first grid, then on the next."""
    keys, alone, labels = row_keys(record), len(stages) == 1, list(record.views)
    grids = [
        Grid.of(_geometry(record, one), alone=alone, composite=stage.composite)
        for one, stage in zip(shown_grids(record), stages, strict=True)
    ]
    sinks = [sinks_of(record, view) for view in record.views.values()]
    panels = []
    for index, view in enumerate(whole.views.values()):
        number, own = divmod(index, len(labels))
        found, there = sinks[own], None
        if found is not None and not stages[number].composite:
            there = found[span(record.grids, number)].reshape(grids[number].outside.shape)
        panels.append(build_panel(whole, view, index, keys, grids[number], stages[number], labels[own], there))
    return with_lines(record, panels)


def _stages(record: Record, photos: Sequence[Photo | None]) -> tuple[Stage, ...]:
    """One stage for each grid; those of one picture share it in the page."""
    stages: list[Stage] = []
    held: dict[int, str] = {}
    for number, grid in enumerate(shown_grids(record)):
        photo = photos[grid.image]
        stage = build_stage(_geometry(record, grid), photo.uri if photo else "", photo.thumb_uri if photo else "")
        if len(record.grids) > 1:
            suffix = f"-g{number}" if number else ""
            picture = held.setdefault(grid.image, suffix)
            stage = replace(stage, key=f"g{number}", name=grid.name, suffix=suffix, picture_suffix=picture)
        stages.append(replace(stage, composite=number >= len(record.grids)))
    return tuple(stages)


def _geometry(record: Record, grid: Lattice) -> Geometry:
    return Geometry.of(record.facts.images[grid.image], grid)


def _summary(record: Record) -> tuple[Fact, ...]:
    """The header's facts."""
    first = next(iter(record.views.values()))
    written = len(ordinary_tokens(record.tokens))
    share, images, grids = mean_image_share(record.facts, first), record.facts.images, record.grids
    sizes = "; ".join(f"{image.width_px} × {image.height_px} px" for image in images)
    patches = "; ".join(
        f"{grid.name}: {grid.rows} × {grid.cols}" if len(grids) > 1 else f"{grid.rows} × {grid.cols}" for grid in grids
    )
    where = "attention on the image" if len(images) == 1 else "attention on the images"
    of = f"view “{first.name}”"
    answered = len(ordinary_answer_rows(record.facts))
    if "query" in first.axes and answered < written:
        of += (
            f"; mean of the {answered} of {wording.count(written, 'token')} that were recorded"
            if answered
            else ("; mean of the question's rows")
        )
    return (
        Fact("answer", wording.count(written, "token")),
        *([] if share is None else [Fact(where, f"{wording.percent(share)} ({of})")]),
        Fact("image" if len(images) == 1 else "images", sizes),
        Fact("patches", patches),
        _tested(record),
        *_verdict(record),
    )


def _verdict(record: Record) -> list[Fact]:
    """That a client found the answer wrong: a page must not look as if all were well."""
    said = record.facts.annotations
    if said is None or said.right is not False:
        return []
    expected = f"; expected “{said.expected}”" if said.expected else ""
    return [Fact("judged", f"{wording.verdict(said.right)}{expected}")]


def _tested(record: Record) -> Fact:
    """What was tested of the answer, in a few words."""
    if told := need_told(record):
        return Fact(*told[:2])
    if (patches := PatchCheck.of_checks(record.facts.checks)) is not None:
        return Fact("patches tested", f"of {len(patches.words)} of {wording.count(patches.of, 'token')}")
    return Fact("causal effect", causal_text(record))


def _photos(record: Record, picture: Pictures | None, embed_image: bool, notes: list[str]) -> list[Photo | None]:
    """The picture of each image, as the page embeds it."""
    carried: list[bytes] = [data for _, data in record.pictures]
    given: Sequence[bytes] = ()
    if isinstance(picture, bytes):
        given = [picture]
    elif isinstance(picture, tuple) and len(picture) == 2 and isinstance(picture[0], str):
        given = [picture[1]]
    elif picture is not None:
        given = list(picture)
    files = given or carried
    if files and len(files) != len(record.facts.images):
        raise ValueError(
            f"picture: got {len(files)}, expected the {len(record.facts.images)} that the record was made from; give "
            "one for each"
        )
    return [
        _photo(record, number, files[number] if files else None, not given, embed_image, notes)
        for number in range(len(record.facts.images))
    ]


def _photo(
    record: Record, number: int, data: bytes | None, carried: bool, embed_image: bool, notes: list[str]
) -> Photo | None:
    without = "This record carries no image"
    photo, note = page_photo(data, carried=carried, embed_image=embed_image, page="report", without=without)
    if photo is None:
        notes.append(note)
        return None
    size = (record.facts.images[number].width_px, record.facts.images[number].height_px)
    if photo.pixels.size != size:
        notes.append(
            f"The image shown is {photo.pixels.width} × {photo.pixels.height} px, the one that was asked about "
            f"{size[0]} × {size[1]} px: it is stretched to fit."
        )
    return photo
