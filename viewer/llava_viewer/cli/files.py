"""Files that commands read: records, and pictures beside them."""

from __future__ import annotations

from pathlib import Path

from llava_viewer.cli.console import one_line, say
from llava_viewer.look.picture import PictureError, check_picture, prepare_picture
from llava_wire.container import decode, read_file
from llava_wire.record import Record


def read_record(path: Path) -> Record:
    """The record in a file."""
    return decode(read_file(path))


def picture_of(
    record: Record, path: Path | None, *, own_is_drawn: bool = False
) -> tuple[tuple[str, bytes] | None, tuple[str, ...]]:
    """The picture file as (member name, bytes), and a note when it, or else the record's own, is another picture.

    Args:
        record: the record.
        path: the picture file, or None for the record's own.
        own_is_drawn: what draws the record's own picture warns of it itself.

    Raises:
        PictureError: the file cannot be read as a picture. The record's own that cannot is warned of.
    """
    data = read_file(path) if path else None
    shown = data if data is not None else record.picture and record.picture[1]
    try:
        difference = check_picture(record, shown, carried=data is None) if shown else None
    except PictureError as error:
        if data is not None:
            raise
        if not own_is_drawn:
            say(f"warning: the record's picture cannot be shown: {one_line(str(error))}")
        difference = None
    if difference:
        say(f"warning: {one_line(difference)}")
    return prepare_picture(data) if data is not None else None, (difference,) if difference else ()
