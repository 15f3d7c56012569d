"""A record becomes a `Report`: rows, views, stage and metadata, all as finished text and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from llava_viewer.look import text, wording
from llava_viewer.look.frames import Grid, build_panel
from llava_viewer.look.photo import Photo, page_photo
from llava_viewer.look.provenance import causal_text, fact_groups
from llava_viewer.look.rows import answer_rows, first_row, question_rows, row_keys
from llava_viewer.look.stage import build_stage
from llava_viewer.look.units import check_one_grid
from llava_viewer.look.view_model import Fact, Report
from llava_wire.choose import mean_image_share, ordinary_tokens
from llava_wire.record import Record


def build_report(
    record: Record,
    *,
    picture: tuple[str, bytes] | bytes | None = None,
    embed_image: bool = True,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Everything the templates show. `picture` goes before the record's own."""
    check_one_grid(record, "report")
    found = [*(note.text for note in record.facts.notes), *notes]
    photo = _photo(record, picture[1] if isinstance(picture, tuple) else picture, embed_image, found)
    stage = build_stage(record.geometry, photo.uri if photo else "", photo.thumb_uri if photo else "")
    keys = row_keys(record)
    grid = Grid.of(record)
    views = tuple(build_panel(record, view, index, keys, grid) for index, view in enumerate(record.views.values()))
    rows, asked = answer_rows(record), question_rows(record)
    specials = sum(row.special for row in rows)
    model = record.facts.model
    return Report(
        title=title or record.facts.prompt.text or "Untitled",
        direction=text.direction(record.answer),
        prompt=record.facts.prompt.text,
        model=model.name,
        revision=model.revision,
        summary=_summary(record),
        notes=tuple(found),
        question_rows=asked,
        rows=rows,
        first_key=first_row(record, (*rows, *asked)),
        special_count=wording.count(specials, "special token") if specials else "",
        views=views,
        stage=stage,
        groups=fact_groups(record, stage),
    )


def _summary(record: Record) -> tuple[Fact, ...]:
    """The header's facts."""
    first = next(iter(record.views.values()))
    written = len(ordinary_tokens(record.tokens))
    image, share = record.facts.image, mean_image_share(record.facts, first)
    return (
        Fact("answer", wording.count(written, "token")),
        *([] if share is None else [Fact("attention on the image", f"{wording.percent(share)} (view “{first.name}”)")]),
        Fact("picture", f"{image.width_px} × {image.height_px} px"),
        Fact("patches", f"{record.geometry.rows} × {record.geometry.cols}"),
        Fact("causal effect", causal_text(record)),
    )


def _photo(record: Record, given: bytes | None, embed_image: bool, notes: list[str]) -> Photo | None:
    picture = given or (record.picture and record.picture[1])
    without = "This record carries no picture"
    photo, note = page_photo(picture, carried=not given, embed_image=embed_image, page="report", without=without)
    if photo is None:
        notes.append(note)
        return None
    size = (record.facts.image.width_px, record.facts.image.height_px)
    if photo.pixels.size != size:
        notes.append(
            f"The picture shown is {photo.pixels.width} × {photo.pixels.height} px, the one that was asked about "
            f"{size[0]} × {size[1]} px: it is stretched to fit."
        )
    return photo
