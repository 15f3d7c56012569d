"""Measures records and reports: bytes per token by reduction and precision, compression, error, time to render.

Flow: the small model and a random one with LLaVA-1.5's 24 x 24 grid -> the same answer at every reduction and precision
-> sizes of the zip's members, errors against the float32 record, rendering -> docs/benchmarks/records.json.
Example: python -m bench.records --tokens 64
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.parts.intervals import median
from bench.parts.random_llava import published, random_llava, shrunk
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.engine import Engine
from llava_viewer.pages.report import render_report
from llava_wire import Record, decode, encode
from llava_wire.codes.quantize import PRECISIONS
from llava_wire.reduction import REDUCTIONS
from servekit.paths import MODEL_STORE
from shapes.scenes import make_scene

QUESTION = "Describe the image."
_SHARPER = 6.0
"""Factor on random query and key weights: ordinary ones attend to everything alike, which no trained model does."""


def engines() -> dict[str, Engine]:
    """The shipped small model, and a random one of 4 layers and 8 heads with a 24 x 24 grid."""
    model, processor = random_llava(shrunk(published("llava-1.5-7b")), torch.float32, torch.device("cpu"))
    with torch.no_grad():
        for name, weight in model.model.language_model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(_SHARPER)
    large = Engine.from_model(model, processor, ModelSettings(name="random"))
    return {"8 x 8": Engine.load(MODEL_STORE / "llava-shapes", device="cpu"), "24 x 24": large}


def answer(engine: Engine, picture: bytes, tokens: int, reduction: str, precision: str) -> Record:
    """One record of all layers and heads."""
    options = {
        "layers": "all", "heads": "all", "reduction": reduction, "precision": precision, "max_new_tokens": tokens,
        "check": [],
    }  # fmt: skip
    record = engine.run([GenerateRequest.build(picture, QUESTION, options)])[0]
    if not isinstance(record, Record):
        raise RuntimeError(f"engine: {record}")
    return record


def stored_bytes(data: bytes) -> tuple[int, int]:
    """Bytes of the maps with their scales in the zip, and as float32 without compression."""
    stored = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            kind = Path(member.filename).stem
            if kind in ("maps", "scales", "places", "largest"):
                stored += member.compress_size
    return stored, 4 * sum(view.scales.size * view.patches for view in decode(data).views.values())


def errors(record: Record, exact: Record) -> tuple[float, float]:
    """Worst and mean error of a value, as a share of its map's peak."""
    ours, theirs = record.maps_float(), exact.maps_float()
    peaks = np.maximum(theirs.max((-2, -1), keepdims=True), np.finfo(np.float32).tiny)
    relative = np.abs(ours - theirs) / peaks
    return float(relative.max()), float(relative.mean())


def record_figures(grid: str, engine: Engine, picture: bytes, tokens: int, raw: dict[str, Any]) -> list[Figure]:
    """Sizes and errors at every reduction and precision; every number goes to `raw`."""
    rows = []
    for reduction in REDUCTIONS:
        exact = answer(engine, picture, tokens, reduction, "float32")
        for precision in PRECISIONS:
            record = answer(engine, picture, tokens, reduction, precision)
            data, count = encode(record), len(record.tokens)
            stored, plain = stored_bytes(data)
            worst, mean = errors(record, exact)
            note = (
                f"{plain / stored:.1f} times smaller than float32; error {worst:.2%} of the peak at worst, "
                f"{mean:.3%} on average; whole record {len(data):,} bytes for {count} tokens"
            )
            name = f"{grid}, reduction {reduction}, {precision}"
            rows.append(Figure(f"{name}: maps", stored / count, "bytes per token", note=note))
            raw[name] = {
                "record_bytes": len(data),
                "maps_bytes": stored,
                "maps_as_float32_bytes": plain,
                "tokens": count,
                "worst_error_of_peak": worst,
                "mean_error_of_peak": mean,
            }
    return rows


def report_figures(
    grid: str, engine: Engine, picture: bytes, tokens: int, rounds: int, raw: dict[str, Any]
) -> list[Figure]:
    """Time and size of the report of the mean view, with the picture inside."""
    record = answer(engine, picture, tokens, "layers_heads", "uint8").with_picture("scene.png", picture)
    seconds = []
    for _ in range(rounds + 1):
        begin = time.process_time()
        html = render_report(record)
        seconds.append(time.process_time() - begin)
    # The first rendering reads the templates.
    taken, size, count = median([value * 1000 for value in seconds[1:]]), len(html.encode("utf-8")), len(record.tokens)
    name = f"{grid}, report of one view"
    raw[name] = {"seconds": seconds, "bytes": size, "tokens": count, "picture_bytes": len(picture)}
    return [
        Figure.of(f"{name}: time to render", taken, "ms", note=f"{count} tokens"),
        Figure(f"{name}: size", size / 1000, "KB", note=f"{count} tokens, picture of {len(picture) / 1000:.1f} KB"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of the answer at most (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="renderings of each report (default %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "records.json")
    given = parser.parse_args(arguments)
    buffer = io.BytesIO()
    make_scene(random.Random(5), "landscape").image.save(buffer, "PNG")
    picture = buffer.getvalue()
    rows: list[Figure] = []
    raw: dict[str, Any] = {}
    for grid, engine in engines().items():
        torch.set_num_threads(1)
        rows += record_figures(grid, engine, picture, given.tokens, raw)
        rows += report_figures(grid, engine, picture, given.tokens, given.rounds, raw)
    for row in rows:
        print(f"{row.name:<56} {row.value:10.1f} {row.unit:<16} {row.note}")
    what = (
        "All layers and heads (4 x 8) of one answer: the shipped small model with its 8 x 8 grid, and a random model "
        "with LLaVA-1.5's 24 x 24 grid."
    )
    settings = {"tokens": given.tokens, "rounds": given.rounds}
    write(given.out, Result("Records and reports", what, machine(), settings, rows, raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
