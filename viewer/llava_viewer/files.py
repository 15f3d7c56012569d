"""Files that are written whole or not at all, and what a file that is already there holds.

Flow: `written(path)` -> a temporary file in the same folder -> renamed; `kind_of(path)` -> a word for its content.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from llava_wire.limits import MAX_DIRECTORY_BYTES
from llava_wire.schema import FORMAT
from llava_wire.system.replacing import replacing
from llava_wire.untrusted.zipped import ZIP_ERRORS, directory_bytes

RECORD, NUMBERS, REPLY, CACHE = "a record", "exported numbers", "a server's reply", "an index's cache"
HEADS = "sets of heads"
EVALUATION, FIGURES, EVALUATION_PAGE = "an evaluation", "an evaluation's table", "an evaluation's page"
DIFFERENCES = "a table of differences"
REPORT, COMPARISON, INDEX = "a report", "a comparison", "an index of runs"
PNG, GIF, SVG, CSV, LOG = (
    "an exported PNG image", "an exported GIF image", "an exported SVG image", "an exported table",
    "an exported log",
)  # fmt: skip
PDF = "an exported PDF"
EMPTY = ""
MARK = "llava-gaze"
"""What exported pictures carry (a PNG's Software text, a GIF's comment, an SVG's first comment, a PDF's
creator), so that they are told from anybody else's pictures and replaced without being asked for."""
PNG_LEVEL = 3
"""How hard exported PNGs are compressed: a third of the usual time, for files that are a tenth larger."""
SVG_MARK = f"<!-- generator: {MARK} -->"
LOG_HEAD = f"{MARK} log"
"""An exported log's first line."""
COLUMNS = (
    "kind", "token", "step", "position", "text", "row", "col", "attention", "image_share", "x0_px", "y0_px", "x1_px",
    "y1_px",
)  # fmt: skip
"""An exported table's first line."""
FIGURE_COLUMNS = (
    "figure", "view", "method", "layer", "head", "words", "tag", "value", "low_95", "high_95", "n", "images",
)  # fmt: skip
"""An evaluation's first line."""
DIFFERENCE_COLUMNS = (
    *FIGURE_COLUMNS[:7], "this", "other", "difference", "low_95", "high_95", "p", "n", "other_n", "images",
)  # fmt: skip
"""The first line of what two runs differ in."""
_PAGES = (("report", REPORT), ("comparison", COMPARISON), ("index", INDEX), ("evaluation", EVALUATION_PAGE))
_HEAD_BYTES = 8192
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a WebP image or other RIFF data"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
)
_MEMBERS = (("record.json", RECORD), ("about.npy", NUMBERS))
"""What tells the two kinds of zip that this package writes from others."""


@contextlib.contextmanager
def written(path: Path, *, through_links: bool = True) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when the block ends without an error.

    A full disk, an error or Ctrl-C leaves what was there before. A device or pipe, which nothing can replace, gets the
    bytes.

    Args:
        through_links: a link stays one, and the file that it points to is replaced: right for a path that somebody
            named. False replaces the link: right for a name of our own in a folder that may be a stranger's.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, f"file{path.suffix}")
            yield kept
            with path.open("wb") as stream:
                stream.write(kept.read_bytes())
        return
    target = Path(os.path.realpath(path if through_links else path.parent))
    target = target if through_links else target / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial: Path | None = None
    try:
        with replacing(target) as partial:
            yield partial
    except OSError as error:
        # The name that the caller knows, not the temporary one.
        if partial is None or error.filename == str(partial):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def kind_of(path: Path) -> str:
    """What a file holds, told by its content: one of this module's kinds, or words for another; `EMPTY` for nothing."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        return EMPTY
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path)
    if head.startswith(b"\x89PNG") and f"tEXtSoftware\0{MARK}".encode() in head:
        return PNG
    if head.startswith(b"GIF8") and b"\x21\xfe" + bytes([len(MARK)]) + MARK.encode() in head:
        return GIF
    if head.startswith(b"%PDF") and _is_own_pdf(path):
        return PDF
    found = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    return found or _text_kind(head)


def _is_own_pdf(path: Path) -> bool:
    """Whether a PDF's facts, which stand at its end, name this program as its creator."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _HEAD_BYTES))
        return b"/Creator (\xfe\xff%b)" % MARK.encode("utf-16-be") in stream.read(_HEAD_BYTES)


def png_mark() -> PngInfo:
    """The texts of an exported PNG, which hold its mark."""
    info = PngInfo()
    info.add_text("Software", MARK)
    return info


def _zip_kind(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            if directory_bytes(stream, path.stat().st_size) > MAX_DIRECTORY_BYTES:
                return "a zip archive of many files"
            with zipfile.ZipFile(stream) as archive:
                names = set(archive.namelist())
    except ZIP_ERRORS:
        return "a damaged zip archive"
    return next((kind for name, kind in _MEMBERS if name in names), "a zip archive")


def _text_kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        kinds = (kind for word, kind in _PAGES if f'name="generator" content="{MARK} {word} '.encode() in text)
        return next(kinds, "an HTML page of another program")
    if text.startswith((b"<svg", b"<?xml")):
        if b"<svg" not in text:
            return "an XML document"
        return SVG if SVG_MARK.encode() in text else "an SVG image"
    if text.startswith((b"{", b"[")):
        if b'"format": "llava-gaze-heads"' in text:
            return HEADS
        if b'"format": "llava-gaze-evaluation"' in text:
            return EVALUATION
        reply = b'"answer":' in text and f'"{FORMAT}"'.encode() in text
        return CACHE if text.startswith(b'{"layout":') else REPLY if reply else "JSON"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "other data"
    first = text.partition(b"\n")[0]
    heads = {
        ",".join(COLUMNS): CSV, ",".join(FIGURE_COLUMNS): FIGURES, ",".join(DIFFERENCE_COLUMNS): DIFFERENCES,
        LOG_HEAD: LOG,
    }  # fmt: skip
    return {head.encode(): kind for head, kind in heads.items()}.get(first, "text")
