"""Files that commands read: records, and pictures beside them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from llava_viewer.cli.console import UsageError, one_line, say
from llava_viewer.client.fields import is_address
from llava_viewer.look.picture import PictureError, check_picture, prepare_picture
from llava_viewer.store.named import read_named
from llava_wire.container import read_file
from llava_wire.record import Record
from llava_wire.system.image_fields import image_field


def picture_path(text: str) -> Path:
    """The path of an image file among arguments; addresses are refused, since nothing is fetched."""
    if is_address(text):
        raise argparse.ArgumentTypeError(f"got {text:.80}, expected a file; nothing is fetched: download it first")
    return Path(text)


def check_question(prompt: str) -> None:
    """Refuses a file in the place of the question, which images without one would leave there.

    Raises:
        UsageError: naming it.
    """
    with contextlib.suppress(OSError):  # a question may be longer than names of files are
        if Path(prompt).is_file():
            raise UsageError(f"PROMPT: got the file {prompt}, expected a question behind the images; write it last")


def add_pictures(parser: argparse._ActionsContainer) -> None:
    """The argument that names the pictures of a record that carries none."""
    parser.add_argument(
        "--image",
        type=picture_path,
        action="append",
        metavar="FILE",
        help="the image, for a record that carries none; repeatable, for one of several images",
    )


def read_record(path: Path) -> Record:
    """The record in a file, or in a store as STORE::ID."""
    return read_named(path)[0]


def with_pictures_of(
    record: Record, paths: Sequence[Path] | None, *, own_is_drawn: bool = False
) -> tuple[Record, tuple[str, ...]]:
    """The record carrying these picture files, and notes of those, or else of its own, that are other pictures.

    Args:
        record: the record.
        paths: the picture files, in the order of its pictures; None for the record's own.
        own_is_drawn: what draws the record's own pictures warns of them itself.

    Raises:
        UsageError: there are fewer or more files than pictures.
        PictureError: a file cannot be read as a picture. One of the record's own that cannot is warned of.
    """
    if paths and len(paths) != len(record.facts.images):
        raise UsageError(
            f"--image: got {len(paths)} files, expected {len(record.facts.images)}, one for each image of the "
            "record; repeat --image in their order"
        )
    files = [read_file(path) for path in paths] if paths else [data for _, data in record.pictures]
    notes = []
    for number, data in enumerate(files):
        try:
            difference = check_picture(record, data, carried=not paths, number=number)
        except PictureError as error:
            if paths:
                raise
            if not own_is_drawn:
                say(f"warning: the record's image cannot be shown: {one_line(str(error))}")
            continue
        if difference:
            said = difference.replace("image:", f"{image_field(number)}:", 1)
            say(f"warning: {one_line(said)}")
            notes.append(said)
    return record.with_pictures([prepare_picture(data) for data in files]) if paths else record, tuple(notes)
