"""What a script does with records: load, save, add the picture, render.

Flow: file -> `load` -> `Record` -> `save`, or `render` -> one HTML page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava_viewer.files import written
from llava_viewer.look.picture import PictureError, check_picture, prepare_picture
from llava_wire.container import decode, read_file
from llava_wire.record import Record
from llava_wire.writing import encode

Picture = bytes | str | Path | Sequence[bytes | str | Path]
"""A picture file's bytes, or its path; of a record of several pictures a list of them, in its order."""


def load(path: str | Path) -> Record:
    """The record in a file.

    Raises:
        RecordError: the file is none, is damaged, or is too large.
        OSError: it cannot be read.
    """
    return decode(read_file(Path(path)))


def save(record: Record, path: str | Path, *, picture: Picture | None = None) -> Path:
    """Writes a record, whole or not at all; a file that is there is replaced.

    Args:
        record: the record.
        path: where to, a name that ends in .npz so that numpy and the report's tools know it.
        picture: kept in the file, as `with_picture` does it; None for what the record carries already.

    Returns:
        the path.

    Raises:
        PictureError, OSError: as `with_picture`; or the file cannot be written.
    """
    whole = record if picture is None else with_picture(record, picture)
    return _write(Path(path), encode(whole))


def with_picture(record: Record, picture: Picture) -> Record:
    """The record carrying its pictures, upright and without metadata, so that one file renders and replays.

    Raises:
        PictureError: a file is no picture that can be read, or not the one that the record was made from.
        ValueError: there are fewer or more than the record was made from.
        OSError: one cannot be read.
    """
    listed = [picture] if isinstance(picture, bytes | str | Path) else list(picture)
    files = [one if isinstance(one, bytes) else read_file(Path(one)) for one in listed]
    for number, data in enumerate(files[: len(record.facts.images)]):
        difference = check_picture(record, data, number=number)
        if difference:
            raise PictureError(difference)
    return record.with_pictures([prepare_picture(data) for data in files])


def render(
    record: Record,
    path: str | Path | None = None,
    *,
    picture: Picture | None = None,
    embed_image: bool = True,
    title: str | None = None,
    notes: Sequence[str] = (),
    opening: str = "",
) -> str:
    """One HTML page that shows a record; the same record gives the same text.

    Args:
        record: the record.
        path: also written here, whole or not at all; a file that is there is replaced.
        picture: shown instead of what the record carries, as `with_picture` takes it.
        embed_image: False leaves the picture out and says so.
        title: the heading, the question when absent.
        notes: warnings that the page shows at its top.
        opening: the state that the page opens in, as its address has it: "t=4&v=mean".

    Returns:
        the page's text.

    Raises:
        ReportTooLargeError: it would be over 25 MB.
        OpeningError: the page has no such state.
        PictureError, OSError: as `with_picture`; or the file cannot be written.
    """
    from llava_viewer.pages.report import render_report

    whole = record if picture is None else with_picture(record, picture)
    html = render_report(whole, embed_image=embed_image, title=title, notes=notes, opening=opening)
    if path is not None:
        _write(Path(path), html.encode("utf-8"))
    return html


def _write(path: Path, data: bytes) -> Path:
    with written(path) as partial:
        partial.write_bytes(data)
    return path
