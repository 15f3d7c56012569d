"""The page's own inflate: what Python's zlib packs in every way comes back byte for byte."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from llava_viewer.pages.styles import script_text


def packed(data: bytes, level: int, strategy: int) -> bytes:
    maker = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return maker.compress(data) + maker.flush()


def test_every_kind_of_block(chromium: Any) -> None:
    rng = np.random.default_rng(3)
    texts = [
        b"",
        b"a",
        bytes(600),
        rng.integers(0, 256, 70_000, np.uint8).tobytes(),
        rng.geometric(0.2, 5000).clip(0, 255).astype(np.uint8).tobytes(),
        np.tile(rng.integers(0, 256, 40_000, np.uint8), 2)[:65_000].tobytes(),
        b"far " + bytes(rng.integers(0, 9, 300, np.uint8)) * 90,
    ]
    streams = [
        (text, packed(text, level, strategy))
        for text in texts
        for level in (0, 1, 6, 9)
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)
    ]
    kinds = {stream[2] >> 1 & 3 for _, stream in streams}
    assert kinds == {0, 1, 2}, "stored, fixed and own codes"
    page = chromium.new_page()
    found = page.evaluate(
        f"""(streams) => {{
            {script_text("inflate")}
            const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
            return streams.map(([text, size]) => {{
                let told = "";
                for (const byte of unpacked(bytes(text), size)) told += String.fromCharCode(byte);
                return btoa(told);
            }});
        }}""",
        [[base64.b64encode(stream).decode(), len(text)] for text, stream in streams],
    )
    page.close()
    for (text, _), own in zip(streams, found, strict=True):
        assert base64.b64decode(own) == text
