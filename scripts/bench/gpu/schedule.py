"""The GPU schedule: what to do with fifteen minutes of one GPU, in five runs, the most important first.

Flow: a run's number -> its parts, one process each with its own time limit -> findings.jsonl, a line per finding as
soon as there is one, and every part's output in a file of its own.
Example: python -m bench.gpu.schedule 1 --out out/gpu (where nothing is installed: with PYTHONPATH=scripts)
Rehearsal on the CPU with a shrunk model: python -m bench.gpu.schedule 1 --device cpu --out out/rehearsal
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.findings import Journal
from bench.gpu.pytest_findings import VARIABLE
from servekit.paths import ROOT, with_sources

FINDINGS = "findings.jsonl"
_GRACE_S = 6.0
"""What a part that is over its limit gets to end what it started, such as a server."""
_REHEARSAL = 4
"""Limits of a rehearsal are so many times as long: a CPU with other work is to find faults, not to keep time."""


@dataclass(frozen=True)
class Part:
    """One program of a run.

    Args:
        name: for findings and the output's file.
        limit_s: when it is ended.
        words: arguments of Python; {out} and {findings} stand for the folder and the findings' file.
        small: further arguments of a rehearsal.
    """

    name: str
    limit_s: float
    words: tuple[str, ...]
    small: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """Some parts and the seconds that they may take together."""

    limit_s: float
    parts: tuple[Part, ...]


_PYTEST = ("-m", "pytest", "-q", "-p", "bench.gpu.pytest_findings")
_WHOLE = ("-m", "bench.gpu.answers", "--findings", "{findings}")
RUNS = {
    1: Run(
        280,
        (
            Part("small-model", 80, (*_PYTEST, "-x", "tests/gpu/test_small_model.py")),
            Part(
                "probe",
                194,
                ("-m", "bench.gpu.probe", "--seconds", "188", "--out", "{findings}"),
                ("--new-tokens", "6", "--batches", "1", "2", "--buckets", "1"),
            ),
        ),
    ),
    2: Run(
        170,
        (
            Part(
                "whole-answers",
                164,
                (*_WHOLE, "--batches", "1", "8", "--no-compile", "--rounds", "3", "--seconds", "140",
                 "--out", "{out}/gpu-llava-1.5-7b.json"),
                ("--batches", "1", "--new-tokens", "4", "--rounds", "1"),
            ),
        ),
    ),
    3: Run(
        140,
        (
            Part("looking", 50, (*_PYTEST, "-x", "tests/gpu/test_looking.py")),
            Part("install", 30, ("scripts/upkeep/install_server_bundle.py", "{bundle}", "--java", "{out}/java")),
            Part("server", 60, (*_PYTEST, "-x", "tests/gpu/test_served.py")),
        ),
    ),
    4: Run(130, (Part("full-size", 124, (*_PYTEST, "tests/gpu/test_full_size.py")),)),
    5: Run(
        206,
        (
            Part("families", 70, (*_PYTEST, "tests/gpu/test_families.py")),
            Part("full-size-families", 130, (*_PYTEST, "tests/gpu/test_full_size_families.py")),
        ),
    ),
}  # fmt: skip
EXTRA = Run(
    400,
    (
        Part(
            "whole-answers-compiled",
            394,
            (*_WHOLE, "--batches", "1", "--rounds", "3", "--seconds", "360", "--out", "{out}/gpu-llava-1.5-7b.json"),
            ("--new-tokens", "4", "--rounds", "1"),
        ),
    ),
)
"""When there is time left: everything compiled too."""


def command(part: Part, device: str, out: Path, bundle: Path | None = None) -> list[str]:
    """The command line of a part on a device; anything but a GPU makes it a rehearsal."""
    names = {"out": out, "findings": out / FINDINGS, "bundle": bundle}
    words = [sys.executable, *(word.format(**names) for word in part.words)]
    if device.startswith("cuda"):
        return words
    takes_device = part.words[1].startswith("bench.gpu.") or any(word.startswith("tests/gpu/") for word in part.words)
    return [*words, *(["--device", device] if takes_device else []), *part.small]


def perform(run: Run, device: str, out: Path, bundle: Path | None = None) -> int:
    """Runs the parts one after another within the run's time; the number of those that did not end well."""
    out.mkdir(parents=True, exist_ok=True)
    findings = out / FINDINGS
    journal = Journal(findings, part="schedule")
    begin, bad = time.monotonic(), 0
    patience = 1 if device.startswith("cuda") else _REHEARSAL
    env = {
        **with_sources(os.environ, "tests"),
        VARIABLE: str(findings),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **({"JAVA_HOME": str(out / "java")} if bundle else {}),
    }
    for part in run.parts:
        if "{bundle}" in part.words and bundle is None:
            continue  # the machine has a server of its own
        left_s = patience * run.limit_s - (time.monotonic() - begin) - _GRACE_S
        limit_s = min(patience * part.limit_s, left_s)
        began = time.monotonic()
        journal.note(f"{part.name}: begins", limit_s=limit_s)
        with (out / f"{part.name}.log").open("wb") as log:
            code = _ended(command(part, device, out, bundle), env, limit_s, log.fileno())
        ends = "cut off" if code is None else "ends"
        journal.note(f"{part.name}: {ends}", code=code, seconds=time.monotonic() - began)
        bad += code != 0
    return bad


def _ended(words: Sequence[str], env: dict[str, str], limit_s: float, log: int) -> int | None:
    """The exit code of a program, or None when it had to be ended."""
    process = subprocess.Popen(
        words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(timeout=max(limit_s, 0.1))
    except subprocess.TimeoutExpired:
        pass
    for number, patience_s in ((signal.SIGINT, _GRACE_S), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
            break
    return None


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when every part ended well, 1 otherwise, 2 without what the run needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=[*map(str, RUNS), "extra"], help="which run; extra: compiled, with time left")
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal with a shrunk model (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu", help="where findings go (default: out/gpu)")
    parser.add_argument(
        "--bundle", type=Path, help="run 3: what upkeep.make_server_bundle made, for a machine without one"
    )
    given = parser.parse_args(arguments)
    # A shell may have made SIGINT mean nothing, and programs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if given.run == "3" and given.bundle is None and importlib.util.find_spec("ts") is None:
        print(
            "error: torchserve: got none installed and no --bundle, expected either; make one with "
            "python -m upkeep.make_server_bundle where there is a network",
            file=sys.stderr,
        )
        return 2
    run = EXTRA if given.run == "extra" else RUNS[int(given.run)]
    return 1 if perform(run, given.device, given.out.resolve(), given.bundle and given.bundle.resolve()) else 0


if __name__ == "__main__":
    sys.exit(main())
