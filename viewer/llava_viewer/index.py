"""One page over many runs: a folder of records and reports -> index.html with thumbnails, sortable and filterable.

Flow: `*.npz` in the folder and one level below -> `Entry`s (damaged files become notes) -> index.html. Without
JavaScript the runs stand in the order of their names.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image as PillowImage

from llava_viewer import colormap, wording
from llava_viewer.frames import mean_image_share, split_view
from llava_viewer.heatmap import data_uri, overlay
from llava_viewer.photo import PhotoError, checkered, open_picture, shrink
from llava_viewer.render import page
from llava_viewer.rows import answer_rows, first_row
from llava_viewer.styles import static_text
from llava_wire.container import decode
from llava_wire.errors import RecordError
from llava_wire.record import Record

THUMB_SIDE_PX = 320
INDEX_NAME = "index.html"


@dataclass(frozen=True)
class Entry:
    """One run in the list; `share` and `tokens` are numbers for sorting, the rest is text as shown."""

    name: str
    report: str
    record: str
    thumb: str
    thumb_label: str
    prompt: str
    answer: str
    model: str
    view: str
    date: str
    transport: str
    tokens: str
    tokens_text: str
    share: str
    share_text: str
    search: str


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read, and why."""

    name: str
    reason: str


def write_index(folder: Path, *, title: str = "Runs") -> Path:
    """Writes index.html into the folder and returns its path.

    Args:
        folder: is searched for `*.npz` records, also in its direct subfolders; a report is the `.html` file of the
            same name beside its record.
        title: the page's heading.
    """
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for path in _records(folder):
        name = path.relative_to(folder).as_posix()
        try:
            entries.append(_entry(folder, path, decode(path.read_bytes())))
        except (RecordError, OSError) as error:
            skipped.append(Skipped(name, str(error)))
    html = page(
        "index.html.j2",
        css=(static_text("base.css") + static_text("index.css"),),
        script=static_text("index.js"),
        title=title,
        count=wording.count(len(entries), "run"),
        entries=entries,
        skipped=skipped,
    )
    target = folder / INDEX_NAME
    partial = folder / f"{INDEX_NAME}.partial"
    partial.write_text(html, encoding="utf-8")
    os.replace(partial, target)
    return target


def _records(folder: Path) -> Iterator[Path]:
    found = [path for pattern in ("*.npz", "*/*.npz") for path in folder.glob(pattern) if path.is_file()]
    return iter(sorted(found, key=lambda path: path.relative_to(folder).as_posix()))


def _entry(folder: Path, path: Path, record: Record) -> Entry:
    name = path.relative_to(folder).with_suffix("").as_posix()
    report = path.with_suffix(".html")
    view = next(iter(record.views.values()))
    share = mean_image_share(record, view)
    written = sum(not token.special for token in record.tokens)
    thumb, label = _thumb(record)
    model = record.facts.model.name
    facts = (name, record.facts.prompt.text, record.answer, model)
    return Entry(
        name=name,
        report=_link(report.relative_to(folder)) if report.is_file() else "",
        record=_link(path.relative_to(folder)),
        thumb=thumb,
        thumb_label=label,
        prompt=record.facts.prompt.text,
        answer=record.answer,
        model=model,
        view=view.name,
        date=_run_text(record.run, "finished_at").replace("T", " ").replace("Z", " UTC"),
        transport=_run_text(record.run, "transport"),
        tokens=str(written),
        tokens_text=wording.count(written, "token"),
        share=f"{share:.6f}",
        share_text=wording.percent(share),
        search=" ".join(facts).casefold(),
    )


def _link(path: Path) -> str:
    """A relative address that a browser resolves to this very file, whatever its name holds."""
    # The leading ./ keeps a name such as "javascript:x.html" a path.
    return "./" + quote(path.as_posix())


def _run_text(run: dict[str, Any], key: str) -> str:
    """A text of the run block, or an empty one: a record may come without it."""
    value = run.get(key)
    return value if isinstance(value, str) else ""


def _thumb(record: Record) -> tuple[str, str]:
    """A small picture with one token's heat, as a data URI, and what it shows."""
    view = next(iter(record.views.values()))
    maps, _ = split_view(view)
    rows = answer_rows(record)
    key = first_row(record, rows)
    chosen = next((row for row in rows if row.key == key and "query" in view.axes), None)
    heat = np.asarray(maps[chosen.query if chosen else 0].mean(axis=0), np.float32) if len(maps) else None
    size = (record.geometry.width_px, record.geometry.height_px)
    try:
        ground = open_picture(record.picture[1]) if record.picture else checkered(*size)
    except PhotoError:
        ground = checkered(*size)
    ground = shrink(ground, THUMB_SIDE_PX)
    if heat is not None:
        ground = overlay(ground, heat, record.geometry, colormap.DEFAULT_PALETTE, None)
    buffer = io.BytesIO()
    PillowImage.frombytes("RGB", ground.size, ground.tobytes()).save(buffer, "JPEG", quality=80)
    label = f"where it looked for “{chosen.text}”" if chosen else "where it looked, whole answer"
    return data_uri(buffer.getvalue(), "image/jpeg"), label
