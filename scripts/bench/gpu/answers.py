"""Measures LLaVA-1.5-7B at its real configuration on a GPU: time per token and peak memory of every way.

Flow: random weights made on the device -> plain sdpa, our engine, eager output_attentions=True; as they are and
compiled -> milliseconds per token at several batch sizes, against the time to read the weights once -> a JSON line as
soon as a way has run, and a results file that is written anew after each batch size.
Example: python -m bench.gpu.answers --batches 1 4 16
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig

from bench.gpu.findings import Journal
from bench.parts.intervals import Interval, median, paired_ratio
from bench.parts.random_llava import published, random_llava, rehearsal
from bench.parts.results import FOLDER, Figure, Result, machine, write
from bench.parts.whole_runs import Timings, copy_bandwidth, decoding_weight_bytes, measure, roomy_settings, runners
from llava_server.engine import Engine
from llava_server.load.loading import prepare
from llava_server.run.compiling import compiled_decoder
from servekit.paths import MODEL_STORE

NAME = "llava-1.5-7b"
COMPILED, EAGER = "engine compiled, default views", "eager, output_attentions=True"
FLOOR_GOAL, EAGER_GOAL = 1.6, 5.0


def engines(model: Any, processor: Any, batches: list[int], compiled: bool, new_tokens: int) -> list[Engine | None]:
    """The engine on a growing cache, and the compiled one with a bucket per batch size or None."""
    settings = roomy_settings(
        model.config,
        MODEL_STORE / f"{NAME}.yaml",
        compile=compiled,
        compile_batches=tuple(batches),
        compile_text_tokens=(64 + new_tokens,),
    )
    loaded = prepare(model, processor)
    return [
        Engine(loaded, settings),
        Engine(loaded, settings, compiled_decoder(loaded, settings)) if compiled else None,
    ]


def per_token(timings: Timings, tokens: int) -> list[float]:
    """Milliseconds per token in each round."""
    return [(long - short) / tokens * 1000 for short, long in zip(timings.short, timings.long, strict=True)]


def figures(
    batch: int, found: dict[str, Timings], left_out: dict[str, str], floor_ms: float, tokens: int
) -> list[Figure]:
    """The rows of the table for one batch size."""
    rows = []
    for title, timings in found.items():
        pace = median(per_token(timings, tokens))
        goal = FLOOR_GOAL if title == COMPILED and batch == 1 else None
        note = f"{pace.value / floor_ms:.2f} x the floor"
        rows.append(Figure.of(f"batch {batch}, {title}: per token", pace, "ms", note=note))
        if goal:
            above = Interval(pace.value / floor_ms, pace.low / floor_ms, pace.high / floor_ms)
            rows.append(Figure.of(f"batch {batch}, {title}: per token", above, "x the floor", at_most=goal))
        first = median([seconds * 1000 for seconds in timings.short])
        rows.append(Figure.of(f"batch {batch}, {title}: first token", first, "ms", note="picture to host included"))
        if timings.peak_bytes:
            rows.append(Figure(f"batch {batch}, {title}: peak beside the weights", timings.peak_bytes / 1e6, "MB"))
    for title, reason in left_out.items():
        rows.append(Figure(f"batch {batch}, {title}", float("nan"), "", note=reason))
    if COMPILED in found and EAGER in found:
        ours, theirs = (per_token(found[title], tokens) for title in (COMPILED, EAGER))
        faster = paired_ratio(theirs, ours)
        name = f"batch {batch}, {EAGER}: time per token"
        rows.append(Figure.of(name, faster, "x the compiled engine's", at_least=EAGER_GOAL))
    return rows


def run(
    config: LlavaConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    batches: list[int],
    new_tokens: int,
    rounds: int,
    compiled: bool,
    until: float = float("inf"),
    journal: Journal | None = None,
    keep: Callable[[list[Figure], dict[str, Any]], None] = lambda rows, raw: None,
) -> tuple[list[Figure], dict[str, Any]]:
    """Measures one configuration.

    Args:
        until: moment of `time.perf_counter` after which nothing more is begun.
        journal: told of every way as soon as it has run.
        keep: called with everything so far after each batch size, so that a run that is cut off loses one of them.

    Returns:
        the rows of the table, and every raw number.
    """
    journal = journal or Journal(quiet=True)
    model, processor = random_llava(config, dtype, device)
    dynamic, static = engines(model, processor, batches, compiled, new_tokens)
    assert dynamic is not None
    ways = runners(model, processor, dynamic, static)
    weights = decoding_weight_bytes(model)
    bandwidth = copy_bandwidth(device, 1 << 30 if device.type == "cuda" else 1 << 26)
    floor_ms = weights / bandwidth * 1000
    rows = [
        Figure("floor: the weights of a decode step read once", floor_ms, "ms", note=f"{weights / 1e9:.2f} GB"),
        Figure("copy bandwidth, read and written bytes", bandwidth / 1e9, "GB/s", note="best of 10"),
    ]
    raw: dict[str, Any] = {"weights_bytes": weights, "copy_bytes_per_s": bandwidth}
    for batch in batches:
        print(f"batch {batch}", file=sys.stderr)

        def rough(title: str, ms_per_token: float, peak_bytes: int, batch: int = batch) -> None:
            times = ms_per_token / floor_ms
            journal.note(
                title, batch=batch, rough_ms_per_token=ms_per_token, times_the_floor=times, peak_mb=peak_bytes / 1e6
            )

        found, left_out = measure(model, ways, batch, 1, 1 + new_tokens, rounds, until=until, rough=rough)
        rows += figures(batch, found, left_out, floor_ms, new_tokens)
        raw |= {f"batch {batch}, {title}": asdict(timings) for title, timings in found.items()}
        for title, timings in found.items():
            pace = median(per_token(timings, new_tokens))
            journal.note(
                f"{title}: {len(timings.long)} rounds",
                batch=batch,
                ms_per_token=pace.value,
                ms_low=pace.low,
                ms_high=pace.high,
            )
        keep(rows, raw)
    return rows, raw


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured; 2 without a GPU."""
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal with a shrunk model (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens between the two timed lengths (64)")
    parser.add_argument("--rounds", type=int, default=10, help="at most (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="nothing is begun after so many")
    parser.add_argument("--no-compile", action="store_true", help="leave out everything compiled")
    parser.add_argument("--findings", type=Path, help="file to which a JSON line is added as soon as a way has run")
    parser.add_argument("--out", type=Path, help="results file (default: docs/benchmarks/gpu-llava-1.5-7b.json)")
    given = parser.parse_args(arguments)
    on_gpu = given.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        print(f"error: device: got {given.device!r}, expected a CUDA device; PyTorch sees none here", file=sys.stderr)
        return 2
    if not on_gpu and given.out is None:
        print("error: --out: got none, expected a file, since a rehearsal is no published figure", file=sys.stderr)
        return 2
    if not on_gpu:
        torch.set_num_threads(1)  # a shrunk model is all overhead
    settings = {"batches": given.batches, "new_tokens": given.new_tokens, "rounds": given.rounds}
    model = "LLaVA-1.5-7B at its real configuration" if on_gpu else "A rehearsal with a shrunk model"
    kind = "bfloat16, 616" if on_gpu else "float32, few"
    what = (
        f"{model}, random weights in {kind} prompt tokens, wall clock. Per token: an answer of {1 + given.new_tokens} "
        "tokens less one of 1 token."
    )
    path = given.out or FOLDER / f"gpu-{NAME}.json"

    def keep(rows: list[Figure], raw: dict[str, Any]) -> None:
        write(path, Result(f"{NAME} on a GPU", what, machine(given.device), settings, rows, raw))

    rows, _ = run(
        published(NAME) if on_gpu else rehearsal(published(NAME)),
        torch.device(given.device),
        torch.bfloat16 if on_gpu else torch.float32,
        batches=given.batches,
        new_tokens=given.new_tokens,
        rounds=given.rounds,
        compiled=not given.no_compile,
        until=begin + given.seconds,
        journal=Journal(given.findings, part="whole answers"),
        keep=keep,
    )
    for row in rows:
        print(f"{row.name:<76} {row.value:10.3f} {row.unit:<24} {row.note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
