"""HEIC and AVIF are decoded in a process of their own, whose memory and time are bounded by the size that they declare.

Flow: bytes -> a child that runs `answer` -> size checked -> limits set -> `read_upright` -> pixels and notes through a
pipe -> `Upright`. Their decoders are large and believe what a file says: a few kilobytes that declare 64 x 64 px may
hold 16,000 x 16,000, and what crashes a decoder must not cost the worker. The child imports no torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage
from PIL import features

from llava_wire import errors
from llava_wire.pictures.kinds import PictureFile, UnsupportedPictureError, undecodable
from llava_wire.pictures.phones import AVIF, HEIF
from llava_wire.pictures.upright import Upright, bomb_pixels, damage_of, read_upright, size_refusal
from llava_wire.schema import Note

_ROOT = Path(errors.__file__).resolve().parents[1]
_SPARE_BYTES, _BYTES_PER_PIXEL = 96 << 20, 40
"""What a decoder may take beyond the child's own: planes of 16 bits, a few frames, and the finished pixels."""
_SPARE_S, _S_PER_MEGAPIXEL = 4, 1
"""Seconds of one core; a decoder takes about a tenth of them."""
_TIMEOUT_S = 120
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from llava_server.read.apart import answer; answer(int(sys.argv[2]))"
)
_TOO_MUCH = "more memory or time than an image of its size"


class ApartError(ValueError):
    """The child's refusal: an error code and "got ..., allowed ...; do ..."."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def read_apart(data: bytes, max_pixels: int) -> Upright:
    """A HEIC or AVIF file's pixels.

    Raises:
        ApartError: more than `max_pixels`, an unread kind, or damage.
    """
    # One thread of everything: threads reserve address space, which is what is limited.
    one = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", _START, str(_ROOT), str(max_pixels)],
            input=data,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, **one},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ApartError("too_large", f"got {_TOO_MUCH}, expected {_TIMEOUT_S} s; save it as JPEG") from error
    head, _, body = child.stdout.partition(b"\n")
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ApartError("too_large", f"got {_TOO_MUCH}, expected what others take; save it as JPEG")
    if child.returncode != 0 or not head:
        raise ApartError(
            "invalid", f"got a damaged image (decoder ended with {child.returncode}), expected a whole file"
        )
    said: dict[str, Any] = json.loads(head)
    if "code" in said:
        raise ApartError(said["code"], said["message"])
    pixels = PillowImage.frombytes("RGB", tuple(said["size"]), body)
    return Upright(pixels, tuple(Note(**note) for note in said["notes"]))


def _opened(stream: BytesIO, formats: tuple[str, ...]) -> Any:
    """The decoder's own class: pillow-heif's for HEIC, Pillow's for AVIF, with one thread."""
    if formats == (HEIF,):
        try:
            import pillow_heif
        except ImportError as error:
            raise undecodable(HEIF) from error
        pillow_heif.options.DECODE_THREADS = 1
        return pillow_heif.HeifImageFile(stream)
    if not features.check("avif"):
        raise undecodable(AVIF)
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return PillowImage.open(stream, formats=formats)


def _bound(pixels: int) -> None:
    """Limits this process to what a picture of so many pixels takes, from here on."""
    taken = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    most = taken + _SPARE_BYTES + pixels * _BYTES_PER_PIXEL
    seconds = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + _SPARE_S + pixels * _S_PER_MEGAPIXEL // 1_000_000
    for what, value in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _read(max_pixels: int) -> dict[str, Any] | Upright:
    """The picture on the standard input, or why it is refused."""

    def check(picture: Any, _: PictureFile) -> None:
        width, height = picture.size
        if width * height > max_pixels:
            raise ApartError("too_large", size_refusal(width * height, max_pixels, (width, height)))
        _bound(width * height)

    warnings.simplefilter("ignore")
    importlib.import_module("PIL.AvifImagePlugin")
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif")
    _bound(0)  # headers alone, so far
    try:
        return read_upright(sys.stdin.buffer.read(), _opened, check)
    except ApartError as error:
        return {"code": error.code, "message": str(error)}
    except UnsupportedPictureError as error:
        return {"code": "unsupported_media", "message": str(error)}
    except MemoryError:
        return {"code": "too_large", "message": f"got {_TOO_MUCH}, expected what others take; save it as JPEG"}
    except Exception as error:  # decoders raise many kinds for damaged files
        bomb = bomb_pixels(error)
        if bomb is not None:
            return {"code": "too_large", "message": size_refusal(bomb, max_pixels)}
        why = damage_of(error)
        return {"code": "invalid", "message": f"got a damaged image ({why}), expected a whole file; send it again"}


def answer(max_pixels: int) -> None:
    """What the child does: one line of JSON on the standard output, and behind it the pixels."""
    found = _read(max_pixels)
    if isinstance(found, Upright):
        head = {"size": found.pixels.size, "notes": [vars(note) for note in found.notes]}
        sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
        sys.stdout.buffer.write(found.pixels.tobytes())
    else:
        sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")
