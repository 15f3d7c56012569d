"""One page over many runs: a folder of records and reports -> index.html with thumbnails, sortable and filterable.

Flow: `*.npz` in the folder and one level below -> `Entry`s, those of unchanged ones from the cache beside the page
(damaged ones become notes) -> index.html. Without JavaScript the runs stand in the order of their names. The records of
a store have a page of another kind (`stored`).
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from llava_viewer.files import written
from llava_viewer.look import colormap, wording
from llava_viewer.look.frames import LOW_IMAGE_SHARE
from llava_viewer.look.heatmap import data_uri, overlay
from llava_viewer.look.photo import ground, shrink
from llava_viewer.look.rows import answer_rows, first_row, need_told
from llava_viewer.look.text import visible
from llava_viewer.look.units import unit_of
from llava_viewer.one_grid import IMAGE, OneGrid, on_one_grid
from llava_viewer.pages.index_cache import THUMB_KIND, Entry, read_cache, write_cache
from llava_viewer.pages.report import page
from llava_viewer.pages.styles import static_text
from llava_wire.choose import mean_image_share, ordinary_tokens
from llava_wire.container import decode, read_file
from llava_wire.errors import RecordError
from llava_wire.record import Record
from llava_wire.view import View

THUMB_SIDE_PX = 320
_TEXT_CHARS = 4000
"""The most of a text that a page of many runs shows and searches."""
INDEX_NAME = "index.html"


@dataclass(frozen=True)
class Listed:
    """One run as the page lists it: its entry and what depends on the files beside it.

    Args:
        record: a link; report: another one, "" when there is no such file.
        argument: the record's path for a command line, or "" when its name cannot be shown as it is.
        weak: the verdict on a run that hardly looked.
    """

    entry: Entry
    name: str
    record: str
    report: str
    argument: str
    search: str
    weak: str


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read, and why."""

    name: str
    reason: str


def write_index(folder: Path, *, title: str = "Runs", fresh: bool = False) -> Path:
    """Writes index.html into the folder and returns its path.

    Args:
        folder: is searched for `*.npz` records, also in its direct subfolders; a report is the `.html` file of the
            same name beside its record. Records whose size and time have not changed since the last index are not
            read again: what was found in them is kept in `index.cache.json`.
        title: the page's heading.
        fresh: read every record again.

    Warns:
        UserWarning: for each file that is no record, or a damaged one: it was left out.
    """
    paths, skipped = list(records_of(folder)), list[Skipped]()
    known = {} if fresh else read_cache(folder, len(paths))
    kept: dict[str, Entry] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            stamp = _stamp(path)
            entry = known.get(name)
            if entry is None or entry.stamp != stamp:
                with _named(name):
                    entry = entry_of(stamp, decode(read_file(path)))
            kept[name] = entry
        except (RecordError, OSError) as error:
            skipped.append(Skipped(name, str(error)))
        except MemoryError:
            skipped.append(Skipped(name, "takes more memory than there is"))
        except Exception as error:  # one stranger's file must not cost the list of all others
            skipped.append(Skipped(name, f"cannot be shown ({type(error).__name__} {error!s:.200})"))
    write_cache(folder, kept)
    listed = [_listed(folder, name, entry) for name, entry in kept.items()]
    html = page(
        "index.html.j2",
        css=(static_text("base.css") + static_text("index.css"),),
        scripts=(static_text("index.js"),),
        title=title,
        command_hint=wording.COMMAND_HINT,
        count=wording.count(len(listed), "run"),
        runs=listed,
        models=_choices(one.entry.model for one in listed),
        views=_choices(one.entry.view for one in listed),
        tags=sorted({tag for one in listed for tag in one.entry.tags.splitlines()}),
        judged=any(one.entry.verdict for one in listed),
        tested=any(one.entry.needing for one in listed),
        skipped=skipped,
        skipped_text=wording.count(len(skipped), "file"),
    )
    target = folder / INDEX_NAME
    with written(target, through_links=False) as coming:
        coming.write_text(html, encoding="utf-8")
    for one in skipped:
        warnings.warn(f"{one.name} was skipped: {one.reason}", stacklevel=2)
    return target


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Warnings about a record say which one they are about."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    for one in found:
        warnings.warn(f"{name}: {one.message}", stacklevel=3)


def records_of(folder: Path) -> Iterator[Path]:
    """The files that may be records, in the folder and one level below, by name."""
    found = [path for pattern in ("*.npz", "*/*.npz") for path in folder.glob(pattern) if path.is_file()]
    return iter(sorted(found, key=lambda path: path.relative_to(folder).as_posix()))


def _stamp(path: Path) -> str:
    """What changes when a file is written anew."""
    status = path.stat()
    return f"{status.st_size}.{status.st_mtime_ns}"


def _choices(values: Iterator[str] | Sequence[str]) -> list[str]:
    """Each value once, in order; nothing when there is no choice."""
    found = sorted(set(values))
    return found if len(found) > 1 else []


def _listed(folder: Path, name: str, entry: Entry) -> Listed:
    path = folder / name
    report = path.with_suffix(".html")
    share, told = float(entry.share), entry.share_text != "–"
    stem = Path(name).with_suffix("").as_posix()
    named = f"./{name}" if name.startswith("-") else name
    return Listed(
        entry=entry,
        name=stem,
        record=_link(path.relative_to(folder)),
        report=_link(report.relative_to(folder)) if report.is_file() else "",
        argument=shlex.quote(named) if visible(name) == name else "",
        search=" ".join(
            (stem, entry.prompt, entry.answer, entry.others, entry.model, entry.view, entry.verdict, entry.tags)
        ).lower(),  # as the page's script lowers what is typed
        weak=wording.map_verdict("weak", share, None, IMAGE) if told and share < LOW_IMAGE_SHARE else "",
    )


def entry_of(stamp: str, record: Record, side_px: int = THUMB_SIDE_PX, photo: PillowImage.Image | None = None) -> Entry:
    """What an index shows of one record.

    Args:
        stamp: changes when the record is written anew.
        record: with its image, where it has one.
        photo: its image, upright RGB, where it is at hand and not in the record.
        side_px: of the thumbnail, its longer side.
    """
    view = next(iter(record.views.values()))
    share = mean_image_share(record.facts, view)
    written, said = len(ordinary_tokens(record.tokens)), record.facts.annotations
    needing, told = wording.needing_image(record.facts.checks), need_told(record)
    # Of several grids the card shows the one with the most attention, and says which one.
    drawn = on_one_grid(record, _brightest(record))
    thumb, label = _thumb(drawn, ground(drawn, side_px) if photo is None else shrink(photo, side_px))
    geometry = drawn.geometry
    return Entry(
        stamp=stamp,
        thumb=thumb,
        thumb_label=label,
        prompt=_cut(record.facts.prompt.text),
        answer=_cut(record.answer),
        others=_cut(_others(record)),
        model=_cut(record.facts.model.name),
        view=_cut(view.name),
        picture=f"{drawn.facts.image.pixels_sha256[:16]} {geometry.rows}x{geometry.cols}",
        date=_run_text(record.run, "finished_at").replace("T", " ").replace("Z", " UTC"),
        transport=_run_text(record.run, "transport"),
        tokens=str(written),
        tokens_text=wording.count(written, "token"),
        share=f"{share or 0.0:.6f}",
        share_text="–" if share is None else wording.percent(share),
        verdict="" if said is None or said.right is None else wording.verdict(said.right),
        expected=_cut(said.expected) if said and said.right is not True else "",
        needs=told[2] if told else "",
        needing=str(needing[0]) if needing else "",
        tags="\n".join(_cut(visible(tag)) for tag in said.tags) if said else "",
    )


def _brightest(record: Record) -> int:
    """The grid on which the first view has the largest sum of its values' sizes; the first of equal ones."""
    view = next(iter(record.views.values()))
    if len(record.grids) == 1:
        return 0
    return int(np.argmax([float(np.abs(view.maps_float(number)).sum()) for number in range(len(record.grids))]))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"


def _others(record: Record) -> str:
    """The further answers of the request (beams, samples), as the card tells them."""
    if not record.alternatives:
        return ""
    answers = "; ".join(f"“{other.answer}”" for other in record.alternatives)
    return f"{wording.count(len(record.alternatives), 'more answer')}: {answers}"


def _link(path: Path) -> str:
    """A relative address that a browser resolves to this very file, whatever its name holds."""
    # The leading ./ keeps a name such as "javascript:x.html" a path.
    return "./" + quote(os.fsencode(path.as_posix()))


def _run_text(run: dict[str, Any], key: str) -> str:
    """A text of the run block, or an empty one: a record may come without it."""
    value = run.get(key)
    return value[:80] if isinstance(value, str) else ""


def _heat(view: View, query: int) -> npt.NDArray[np.float32] | None:
    """The mean map [row, col] of one row of a view, or None for a view of none."""
    if "query" in view.axes:
        if not len(view.stored):
            return None
        view = view.at(query)
    maps = view.maps_float()
    return np.asarray(maps.reshape(-1, *maps.shape[-2:]).mean(axis=0), np.float32)


def _thumb(record: Record, drawn: PillowImage.Image) -> tuple[str, str]:
    """A small picture with one token's heat, as a data URI, and what it shows."""
    view = next(iter(record.views.values()))
    rows = answer_rows(record)
    key = first_row(record, rows)
    chosen = next((row for row in rows if row.key == key and "query" in view.axes), None)
    heat = _heat(view, chosen.query if chosen else 0)
    if heat is not None:
        drawn = overlay(drawn, heat, record.geometry, unit_of(view).palette(colormap.DEFAULT_PALETTE), None)
    buffer = io.BytesIO()
    PillowImage.frombytes("RGB", drawn.size, drawn.tobytes()).save(buffer, "WEBP", quality=78, method=4)
    label = f"where it looked for “{_cut(chosen.text)}”" if chosen else "where it looked, whole answer"
    if isinstance(record, OneGrid):
        label += f", on {_cut(record.grid_name)}"
    return data_uri(buffer.getvalue(), THUMB_KIND), label
