"""Measures precisions of maps on every head of a large model: bytes, error and decode time, and the whole in a page.

Flow: `bench.parts.all_heads` (131 tokens x 32 layers x 32 heads x 24 x 24 patches, from a seed) -> some tokens in every
way of storing -> docs/benchmarks/precisions.json; all tokens in blocks -> the record, its report, that in Chromium.
Example: python -m bench.precisions --tokens 20 --out /tmp/precisions.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.parts.all_heads import HEADS, LAYERS, SIDE, TOKENS, Floats, all_maps, record_of
from bench.parts.in_browser import beside, chromium, milliseconds, watch
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.codes.blocks import BLOCK
from llava_wire.codes.quantize import BLOCKS, Stored, restored, store
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.writing import COMPRESSION_LEVEL
from servekit.paths import SetupError

WAYS = (
    ("uint8 (sqrt-u8)", "uint8", ATTENTION),
    ("linear-u8, not for shares", "uint8", Quantity("attention", "", signed=False, additive=True)),
    ("blocks (blocks-u8)", BLOCKS, ATTENTION),
    ("float16", "float16", ATTENTION),
    ("float32", "float32", ATTENTION),
)
"""Ways of storing: what the table calls them, precision and quantity."""
SAMPLE = 4
"""Tokens that every way stores."""


@dataclass(frozen=True)
class Measured:
    """One way of storing: bytes of a map in a record, errors, and time to read."""

    bytes_per_map: float
    worst_of_peak: float
    mean_of_peak: float
    worst_of_block: float
    worst_of_sum: float
    us_per_map: float


def measure(maps: Floats, precision: str, quantity: Quantity) -> Measured:
    """Stores maps [map, patch] and reads them back."""
    side = round(maps.shape[1] ** 0.5)
    stored = store(maps, precision, [(side, side)], quantity)
    begin = time.process_time()
    back = restored(stored, [(side, side)])
    took = time.process_time() - begin
    off = back.astype(np.float64) - maps
    relative = np.abs(off) / np.maximum(maps.max(1, keepdims=True), np.finfo(np.float32).tiny)
    count = side // BLOCK
    blocks = off.reshape(-1, side, side)[:, : count * BLOCK, : count * BLOCK]
    blocks = blocks.reshape(-1, count, BLOCK, count, BLOCK).sum((2, 4))
    return Measured(
        packed_bytes(stored) / len(maps), float(relative.max()), float(relative.mean()),
        float(np.abs(blocks).max()), float(np.abs(off.sum(1)).max()), 1e6 * took / len(maps),
    )  # fmt: skip


def packed_bytes(stored: Stored) -> int:
    """What maps take in a record's zip."""
    arrays: list[np.ndarray] = [stored.codes, stored.scales]
    arrays += [stored.kept.places, stored.kept.values] if stored.kept is not None else []
    return sum(len(zlib.compress(np.ascontiguousarray(array).tobytes(), COMPRESSION_LEVEL)) for array in arrays)


def way_figures(maps: Floats, raw: dict[str, Any]) -> list[Figure]:
    """A row for each way of storing."""
    figures = []
    for name, precision, quantity in WAYS:
        found = measure(maps, precision, quantity)
        raw[name] = {**vars(found), "maps": len(maps)}
        note = (
            f"error of a patch {found.worst_of_peak:.2%} of the map's peak at worst, {found.mean_of_peak:.3%} on "
            f"average; of the sum of a block of {BLOCK} x {BLOCK} {found.worst_of_block:.1e} at worst, of a map's "
            f"{found.worst_of_sum:.1e}; decoded in {found.us_per_map:.1f} us"
        )
        figures.append(Figure(f"{name}: a map", found.bytes_per_map, "bytes", note=note))
    return figures


def whole_figures(maps: Floats, shares: Floats, given: argparse.Namespace, raw: dict[str, Any]) -> list[Figure]:
    """Size of record and report, and the report in a browser, of all maps in blocks."""
    record = record_of(maps, shares, BLOCKS)
    data = encode(record)
    begin = time.process_time()
    html = render_report(record)
    rendered_s = time.process_time() - begin
    page_bytes = len(html.encode("utf-8"))
    name = f"{maps.shape[0]} tokens, {maps.shape[1]} x {maps.shape[2]} heads, in blocks"
    full = maps.shape[:3] == (TOKENS, LAYERS, HEADS)
    figures = [
        Figure(f"{name}: record", len(data) / 1e6, "MB", at_most=16 if full else None),
        Figure(f"{name}: report", page_bytes / 1e6, "MB", at_most=14 if full else None),
        Figure(f"{name}: time to render", rendered_s, "s"),
    ]
    raw["whole"] = {"record_bytes": len(data), "report_bytes": page_bytes, "render_s": rendered_s}
    if not given.opens:
        return figures
    head = f"#l={maps.shape[1] // 2}&h={maps.shape[2] // 2}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.html"
        path.write_text(html, encoding="utf-8")
        for what, state in (("mean of all heads", ""), ("one head", head)):
            kinds = ("word", "head") if state else ("word",)
            seen = watch(given.browser, path, given.opens, given.switches, state, kinds)
            raw[what] = vars(seen)
            figures.append(milliseconds(f"{name}: open, {what}", seen.open_ms, at_most=1000))
            for kind in kinds:
                figures.append(milliseconds(f"{name}: another {kind}, {what}", seen.switch_ms[kind], at_most=50))
                drawn = f"{name}: another {kind}, {what}: until every head is drawn"
                figures.append(milliseconds(drawn, seen.all_ms[kind]))
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the answer (default %(default)s)")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the model (default %(default)s)")
    parser.add_argument("--heads", type=int, default=HEADS, help="of a layer (default %(default)s)")
    parser.add_argument("--side", type=int, default=SIDE, help="rows and columns of patches (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of queries, keys, sinks (default %(default)s)")
    parser.add_argument(
        "--opens", type=int, default=5, help="openings of the page; 0: no browser (default %(default)s)"
    )
    parser.add_argument("--switches", type=int, default=30, help="clicks on words (default %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "precisions.json")
    given = parser.parse_args(arguments)
    try:
        given.browser = chromium() if given.opens else ""
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    maps, shares = all_maps(given.tokens, given.layers, given.heads, given.side, given.seed)
    raw: dict[str, Any] = {"beside": beside()}
    every = max(1, given.tokens // SAMPLE)
    rows = way_figures(maps[::every][:SAMPLE].reshape(-1, maps.shape[-1]), raw)
    rows += whole_figures(maps, shares, given, raw)
    for row in rows:
        print(f"{row.name:<56} {row.value:10.1f} {row.unit:<8} {row.note}")
    what = (
        f"Maps of every head of a model with {given.layers} layers of {given.heads} heads and {given.side} x "
        f"{given.side} patches, from random queries and keys with sinks and heavy tails: each way of storing on some "
        "tokens (decoded: CPU time), all tokens in blocks"
        + (f", their report in headless Chromium ({raw['beside']})." if given.opens else ".")
    )
    settings = {
        name: getattr(given, name) for name in ("tokens", "layers", "heads", "side", "seed", "opens", "switches")
    }
    write(given.out, Result("Precisions of maps", what, machine(), settings, rows, raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
