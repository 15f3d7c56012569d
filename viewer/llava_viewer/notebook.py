"""Records in notebooks: one map on the picture as a Pillow image, and the whole report inline.

Flow: `Record.overlay` and `Record._repr_html_` -> the entry point `llava_gaze.display` -> this module.
"""

from __future__ import annotations

from html import escape
from typing import Any

from PIL import Image as PillowImage

from llava_viewer.export.drawing import MARGIN, Drawing
from llava_viewer.export.figure import Frame, figure, shown_box, stage_marks
from llava_viewer.export.raster import paint
from llava_viewer.export.shown import Look, show
from llava_viewer.look.heatmap import data_uri
from llava_viewer.pages.report import render_report
from llava_wire.record import Record

_HEIGHT_PX = 860


def overlay(
    record: Record,
    token: int | None = None,
    *,
    view: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    grid: str | int | None = None,
    legend: bool = False,
    **look: Any,
) -> PillowImage.Image:
    """One map on the picture, RGB.

    Args:
        token: the answer token's number; None for the one that a report opens on.
        view, layer, head, grid: as in `Record.map`.
        legend: False for the bare picture in its own size, pixel for pixel where the original's are; True for a figure
            with token, legend and caption.
        look: the fields of `Look`: mode, palette, scale, width_mm, dpi, caption, fonts, crop.

    Raises:
        ValueError: the record holds no such map, or the look is none that there is.
    """
    known = Look.__dataclass_fields__
    for name in look:
        if name not in known:
            raise ValueError(f"overlay: got {name!r}, expected {', '.join(known)}")
    shown = show(record, view=view, layer=layer, head=head, grid=grid, look=Look(**{"dpi": 200, **look}))
    item = shown.item(token)
    if legend:
        return paint(figure(shown, item), shown.look.dpi)
    geometry = shown.record.geometry
    box = shown_box(shown) if shown.look.crop else (0.0, 0.0, float(geometry.width_px), float(geometry.height_px))
    width, height = round(box[2] - box[0]), round(box[3] - box[1])
    frame = Frame(0.0, 0.0, 1.0, box)
    marks = stage_marks(shown, item, frame, shown.backdrop(max(geometry.width_px, geometry.height_px)), peak=False)
    edge = round(MARGIN)
    sheet = paint(Drawing(width, height, tuple(marks), item.text, item.text), 72)  # one point is one px
    return sheet.crop((edge, edge, edge + width, edge + height))


def html(record: Record) -> str:
    """The report in a frame of its own, so that neither the notebook's styles nor its scripts meet the report's."""
    try:
        report = render_report(record)
    except ValueError as error:  # too large a page
        return f"<p>{escape(str(error))}</p>"
    # No same origin: the report cannot reach the notebook, whatever a record holds. An address of its own and not
    # srcdoc, in which links to the page's own sections would lead to the notebook.
    return (
        f'<iframe title="llava-gaze report" sandbox="allow-scripts allow-downloads" width="100%" height="{_HEIGHT_PX}" '
        f'style="border:0" src="{data_uri(report.encode("utf-8"), "text/html;charset=utf-8")}"></iframe>'
    )
