"""What decides the speed of LLaVA-1.5-7B on one GPU, as a JSON line per finding, the most important first.

Flow: random weights at the real configuration -> `bench.gpu.probe_parts`, each part with its own time limit and
all within --seconds -> findings on stdout and in --out.
Example: python -m bench.gpu.probe --buckets 1 8 --seconds 195 --out out/gpu/findings.jsonl
Rehearsal: python -m bench.gpu.probe --device cpu --new-tokens 6 --batches 1 2 --buckets 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.gpu.findings import Journal, OutOfTime, limited
from bench.gpu.probe_parts import NAME, Probe
from bench.parts.random_llava import published, rehearsal
from bench.parts.results import machine

_LEAST_S = 3.0
"""A part that would have less time than this is not begun."""


def take(
    parts: Sequence[tuple[str, float, Callable[[], None]]],
    journal: Journal,
    until: float,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Runs the parts one after another; the number of those that failed, were cut off or were left out.

    Args:
        parts: name, most seconds, function.
        until: the moment of `clock` at which everything ends.
    """
    bad = 0
    for name, most_s, work in parts:
        left_s = until - clock()
        if left_s < _LEAST_S:
            journal.note(f"{name}: left out", seconds_left=max(left_s, 0.0))
            bad += 1
            continue
        try:
            with limited(min(most_s, left_s)):
                work()
        except OutOfTime as error:
            journal.note(f"{name}: cut off", error=str(error))
            bad += 1
        except Exception as error:
            journal.note(f"{name}: failed", error=f"{type(error).__name__}: {error}"[:400])
            bad += 1
    journal.note("done", parts=len(parts), bad=bad)
    return bad


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when every part was measured; 1 names those that were not; 2 without a GPU."""
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal with a shrunk model (default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=64, help="length of answers (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16], help="batch sizes (default: 1 8 16)")
    parser.add_argument("--buckets", type=int, nargs="*", default=[1, 8], help="compiled batch sizes (default: 1 8)")
    parser.add_argument("--seconds", type=float, default=195, help="for everything (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="file that findings are added to, besides stdout")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"error: device: got {given.device!r}, expected a CUDA device; PyTorch sees none here", file=sys.stderr)
        return 2
    if not given.device.startswith("cuda"):
        torch.set_num_threads(1)  # a shrunk model is all overhead
    journal = Journal(given.out, part="probe")
    journal.note("machine", **machine(given.device))
    config = published(NAME) if given.device.startswith("cuda") else rehearsal(published(NAME))
    probe = Probe(
        config,
        torch.device(given.device),
        new_tokens=given.new_tokens,
        batches=given.batches,
        buckets=given.buckets,
        journal=journal,
    )
    return 1 if take(probe.parts(), journal, begin + given.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())
