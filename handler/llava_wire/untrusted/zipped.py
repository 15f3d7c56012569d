"""A stranger's zip: its directory is bounded and its sizes are added up before anything is inflated.

Flow: bytes -> end of the directory -> `zipfile` -> members that do not overlap and inflate to no more than the file may
-> `member` -> bytes. `Budget` is what one file may take, its alternatives included.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from llava_wire import limits
from llava_wire.errors import RecordError, beginning

ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error,
    LookupError, OverflowError,
)  # fmt: skip
"""What zipfile raises for damaged data; NotImplementedError and RuntimeError stand for flags it does not read."""
_ZIP_START = b"PK\x03\x04"
_END, _END_BYTES, _MAX_COMMENT = b"PK\x05\x06", 22, 1 << 16
_WIDE_PLACE, _WIDE_PLACE_BYTES = b"PK\x06\x07", 20
_WIDE_END, _WIDE_END_BYTES = b"PK\x06\x06", 56
_LOCAL_BYTES = 30
Members = dict[str, zipfile.ZipInfo]


@dataclass
class Budget:
    """What is left of what a file may take: inflated bytes, bytes of JSON, maps and their values."""

    inflated_bytes: int
    json_bytes: int
    map_values: int
    maps: int

    @classmethod
    def of(cls, file_bytes: int) -> Budget:
        """What a file of this size may take."""
        inflated = min(limits.MAX_INFLATED_BYTES, limits.ALWAYS_INFLATED_BYTES + limits.MAX_INFLATION * file_bytes)
        return cls(inflated, limits.MAX_JSON_BYTES, limits.MAX_MAP_VALUES, limits.MAX_MAPS)

    def inflate(self, members: Members) -> None:
        """Takes what these members inflate to.

        Raises:
            RecordError: "too_large".
        """
        total = sum(info.file_size for info in members.values())
        if total > self.inflated_bytes:
            raise RecordError(
                "too_large", f"record: got members of {total} bytes inflated, expected {self.inflated_bytes}"
            )
        self.inflated_bytes -= total

    def read_json(self, info: zipfile.ZipInfo) -> None:
        """Takes a JSON member's bytes.

        Raises:
            RecordError: "too_large".
        """
        if info.file_size > self.json_bytes:
            raise RecordError(
                "too_large", f"{info.filename}: got {info.file_size} bytes, expected {self.json_bytes}; ask for less"
            )
        self.json_bytes -= info.file_size

    def unfold(self, values: int, name: str) -> None:
        """Takes what maps would inflate to if each of their values were a byte of the file.

        Raises:
            RecordError: "too_large".
        """
        if values > self.inflated_bytes:
            raise RecordError(
                "too_large",
                f"{name}: got {values} values in blocks, expected {self.inflated_bytes} from a file of "
                "this size; the file is damaged",
            )
        self.inflated_bytes -= values

    def hold(self, maps: int, patches: int, name: str) -> None:
        """Takes a view's maps.

        Raises:
            RecordError: "too_large".
        """
        for got, left, most, what in (
            (maps * patches, self.map_values, limits.MAX_MAP_VALUES, "values"),
            (maps, self.maps, limits.MAX_MAPS, "maps"),
        ):  # fmt: skip
            if got > left:
                raise RecordError(
                    "too_large",
                    f"{name}: got {got} {what}, expected {left} (of {most} in all views); ask for fewer layers, heads, "
                    "steps or views",
                )
        self.map_values -= maps * patches
        self.maps -= maps


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[tuple[zipfile.ZipFile, Members]]:
    """The archive of a record file and its members by name; nothing is inflated yet.

    Raises:
        RecordError: "not_a_record", "truncated", "too_large" or "invalid".
    """
    if len(data) > limits.MAX_FILE_BYTES:
        raise RecordError(
            "too_large",
            f"record: got {len(data)} bytes, expected {limits.MAX_FILE_BYTES}; ask for fewer views or steps",
        )
    if data[:4] != _ZIP_START:
        raise RecordError(
            "not_a_record",
            f"record: got {len(data)} bytes that start with {data[:4]!r}, expected a zip, which starts with "
            f"{_ZIP_START!r}; is it a whole .npz record?",
        )
    directory = directory_bytes(io.BytesIO(data), len(data))
    if directory > limits.MAX_DIRECTORY_BYTES:
        raise RecordError(
            "too_large", f"record: got a zip directory of {directory} bytes, expected {limits.MAX_DIRECTORY_BYTES}"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except ZIP_ERRORS as error:
        raise RecordError(
            "truncated", f"record: got a broken zip ({error!s:.200}), expected a whole file; fetch it again"
        ) from error
    with archive:
        infos = archive.infolist()
        if len(infos) > limits.MAX_MEMBERS:
            raise RecordError("too_large", f"record: got {len(infos)} members, expected {limits.MAX_MEMBERS}")
        members = {info.filename: info for info in infos}
        if len(members) != len(infos):
            raise RecordError(
                "invalid", "record: got two members with one name, expected one each; the file is damaged"
            )
        if "record.json" not in members:
            raise RecordError("not_a_record", "record: got a zip without record.json, expected a llava-gaze record")
        _check_places(infos, len(data))
        yield archive, members


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes, never more than its directory entry promised.

    Raises:
        RecordError: "invalid" for another compression, "truncated" for damaged data.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RecordError(
            "invalid", f"{info.filename}: got compression {info.compress_type}, expected 0 (stored) or 8 (deflate)"
        )
    try:
        with archive.open(info) as stream:
            data = stream.read(info.file_size + 1)
    except ZIP_ERRORS as error:
        raise RecordError(
            "truncated",
            f"{info.filename}: got damaged data ({error!s:.200}), expected a whole file; fetch it again",
        ) from error
    if len(data) != info.file_size:
        raise RecordError(
            "truncated", f"{info.filename}: got {len(data)} bytes, expected {info.file_size}; fetch it again"
        )
    return data


def directory_bytes(stream: BinaryIO, file_bytes: int) -> int:
    """How large a zip's directory says that it is, found where `zipfile` finds it; 0 where that finds none.

    `zipfile` reads all of a directory, which may be most of a file, into an object per entry.
    """
    tail_bytes = min(file_bytes, _END_BYTES + _MAX_COMMENT)
    stream.seek(file_bytes - tail_bytes)
    tail = stream.read(tail_bytes)
    at = len(tail) - _END_BYTES
    if not (tail[at : at + 4] == _END and tail[-2:] == b"\0\0"):
        at = tail.rfind(_END)
    if at < 0 or at + _END_BYTES > len(tail):
        return 0
    found: int = struct.unpack_from("<L", tail, at + 12)[0]
    end = file_bytes - tail_bytes + at
    if end < _WIDE_PLACE_BYTES + _WIDE_END_BYTES:
        return found
    stream.seek(end - _WIDE_PLACE_BYTES - _WIDE_END_BYTES)
    wide = stream.read(_WIDE_END_BYTES + _WIDE_PLACE_BYTES)
    if wide[_WIDE_END_BYTES:][:4] == _WIDE_PLACE and wide[:4] == _WIDE_END:
        found = struct.unpack_from("<Q", wide, 40)[0]
    return found


def _check_places(infos: list[zipfile.ZipInfo], file_bytes: int) -> None:
    """Refuses members that share bytes of the file: each byte may stand for one member's data only."""
    end, before = 0, ""
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise RecordError(
                "invalid",
                f"record: got members {beginning(before)} and {beginning(info.filename)} in one place, expected one "
                "after the other; the file is damaged",
            )
        end, before = info.header_offset + _LOCAL_BYTES + info.compress_size, info.filename
    if end > file_bytes:
        raise RecordError("truncated", f"record: got a last member up to byte {end}, expected {file_bytes}")
