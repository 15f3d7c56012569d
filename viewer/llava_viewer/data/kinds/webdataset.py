"""WebDataset: tar shards whose members belong together by their names; images are read by their offset.

Flow: a tar, a folder of them, or shards-{000..011}.tar -> members with one key, one after another -> a row: the image's
place, the JSON's columns, texts -> `Entry`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.columns import NAMES, table
from llava_viewer.data.kind import HOLDS, NO, PERHAPS, YES, Asked, Data, DataError, inside
from llava_viewer.data.kinds.folder import IMAGES
from llava_wire.errors import beginning
from llava_wire.limits import MAX_FILE_BYTES

DECLARATION = Declaration(
    "webdataset",
    "WebDataset: a tar, a folder of tars, or shards-{000..011}.tar.",
    "llava_viewer.data.kinds.webdataset:WebDataset",
    traits={HOLDS: (".tar",)},
)
KEY, IMAGE = "__key__", "image"
_TEXTS = ("txt", "cls")
_BLOCK = 512
_AT_ONCE = 1 << 20
_MOST_TEXT_BYTES = 1 << 24
_MOST_SHARDS = 100_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


class WebDataset:
    """See `llava_viewer.data.kind.Kind` and `Holder`."""

    def fits(self, path: Path) -> int:
        """By its ending, with braces too; a folder of tars, where there are no images beside."""
        if path.is_dir():
            return PERHAPS if any(path.glob("*.tar")) else NO
        return YES if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")) else NO

    def read(self, asked: Asked) -> Data:
        """Every shard's headers, JSON and texts; no image."""
        shards = _shards(asked.path)
        folder = asked.path if asked.path.is_dir() else shards[0].parent
        rows = [row for shard in shards for row in _rows(shard, os.path.relpath(shard, asked.images or folder))]
        names = {name: None for _, row in rows for name in row}
        kind = f"WebDataset ({len(shards)} shards)" if len(shards) > 1 else "WebDataset"
        known = {"id": [KEY], "expected": [*NAMES["expected"], "cls", "txt"]}
        return table(asked, kind, list(names), rows, folder, known)

    def image(self, file: Path, member: str, number: int) -> bytes:
        """The member whose header is at a byte of the tar; what is not called so, is another one."""
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            block = os.pread(descriptor, _BLOCK, number)
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                raise OSError(errno.EIO, f"no member at byte {number} of {file.name}") from None
            # Longer names stand before the header, which repeats their beginning.
            # Names beyond ASCII too, in the format pax: the header itself has them with question marks.
            if len(os.fsencode(member)) < 100 and header.name not in (
                member,
                member.encode("ascii", "replace").decode(),
            ):
                raise OSError(errno.EIO, f"the member {header.name!r:.80} at byte {number} of {file.name}")
            if header.size > MAX_FILE_BYTES:
                raise OSError(errno.EFBIG, f"{header.size} bytes at byte {number} of {file.name}")
            data = os.pread(descriptor, header.size, number + _BLOCK)
        finally:
            os.close(descriptor)
        if len(data) < header.size:
            raise OSError(errno.EIO, f"the end of {file.name} inside {member!r:.80}")
        return data


def _shards(path: Path) -> list[Path]:
    """The tars that a path means."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    named = path.exists()
    if (named or "{" not in str(path)) and path.suffix.lower() != ".tar":
        raise DataError(f"{path.name}: got a compressed tar, expected .tar, whose images are read in place; unpack it")
    return [path] if named else list(map(Path, _expanded(str(path))))


def _expanded(text: str) -> list[str]:
    """{000..011} and {a,b}, as shells expand them."""
    found = [text]
    while match := _RANGE.search(found[0]):
        first, last, listed = match.groups()
        count = int(last) - int(first) + 1 if first else listed.count(",") + 1
        if not 0 < count * len(found) <= _MOST_SHARDS:
            raise DataError(
                f"{match[0]}: got {count} names, expected 1 to {_MOST_SHARDS:,} from low to high; correct it"
            )
        each = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)] if first else listed.split(",")
        found = [one.replace(match[0], part, 1) for one in found for part in each]
    return found


def _rows(shard: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The samples of a shard: what stands together under one key."""
    key, members = "", dict[str, Any]()
    for own, ending, value in _members(shard, name):
        if own != key and members:
            yield _sample(shard, key, members)
            members = {}
        if ending in members:
            raise DataError(f"{shard.name}, {own}.{ending}: got it twice, expected it once; leave one out")
        key, members[ending] = own, value
    if members:
        yield _sample(shard, key, members)


def _sample(shard: Path, key: str, members: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A row: the JSON's columns, every other member by its ending, and the image, where it is the only one."""
    where = f"{shard.name} {key}"
    columns: Mapping[str, Any] = members.get("json") or {}
    images = [ending for ending in members if _is_image(ending)]
    row = {**columns, **{ending: value for ending, value in members.items() if ending != "json"}, KEY: key}
    row.pop(IMAGE, None)
    if len(images) == 1:
        row[IMAGE] = members[images[0]]
    elif images:
        row[IMAGE] = tuple(f"{key}.{ending}" for ending in images)
    return where, row


def _members(shard: Path, name: str) -> Iterator[tuple[str, str, Any]]:
    """Key, ending and value of each member that is known: an image's place, what JSON says, a text.

    Raises:
        DataError: it is no tar, or one that is damaged.
    """
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                key, ending = _key(member.name)
                where = f"{shard.name} {member.name}"
                if (member.issym() or member.islnk()) and key and (_is_image(ending) or ending in ("json", *_TEXTS)):
                    raise DataError(
                        f"{where}: got a link to {member.linkname!r:.80}, expected the file itself; write the tar anew "
                        "(GNU tar: --dereference --hard-dereference)"
                    )
                if not member.isreg() or not key:
                    continue
                if _is_image(ending):
                    if member.issparse():
                        raise DataError(f"{where}: got a sparse file, expected an ordinary one; write the tar anew")
                    yield key, ending, inside(name, member.name, member.offset_data - _BLOCK)
                elif ending == "json" or ending in _TEXTS:
                    yield key, ending, _text(tar, member, where, ending)
            _check_end(tar, shard)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{shard.name}: got {error!s:.200}, expected a tar; write it anew") from None


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str, ending: str) -> Any:
    if member.size > _MOST_TEXT_BYTES:
        raise DataError(f"{where}: got {member.size} bytes, expected up to {_MOST_TEXT_BYTES}; leave it out")
    stream = tar.extractfile(member)
    assert stream is not None
    try:
        text = stream.read().decode("utf-8-sig").strip()
        if ending != "json":
            return text or None
        found = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: got bytes that are no UTF-8 ({error.reason}), expected UTF-8; convert it") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: got {beginning(text)}, expected a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{where}: got {beginning(found)}, expected a JSON object")
    return found


def _check_end(tar: tarfile.TarFile, shard: Path) -> None:
    """A damaged header ends the walk as the tar's own end does, which is two empty blocks and nothing behind them.

    Raises:
        DataError: it ends elsewhere.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    seen = 0
    while block := tar.fileobj.read(_AT_ONCE):
        if block.strip(b"\0"):
            at = tar.offset + seen + len(block) - len(block.lstrip(b"\0"))
            raise DataError(
                f"{shard.name}: got bytes at {at} behind the tar's end or in a damaged member, expected none; write it "
                "anew (tars are not joined by cat)"
            )
        seen += len(block)
    if seen < 2 * _BLOCK:
        raise DataError(f"{shard.name}: got {seen} bytes behind the last member, expected the tar's end; it is cut off")


def _key(name: str) -> tuple[str, str]:
    """A member's key and ending: what stands before and behind the first dot of its last part."""
    folder, _, last = name.removeprefix("./").rpartition("/")
    key, _, ending = last.partition(".")
    return (f"{folder}/{key}" if folder else key) if key else "", ending.lower()


def _is_image(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in IMAGES
