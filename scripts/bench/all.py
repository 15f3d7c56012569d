"""Runs every benchmark of this machine, one after another, and renders the table of docs/benchmarks.

Flow: the list below -> one process each, alone on the machine -> docs/benchmarks/*.json -> `bench.table`. A quick look
goes to out/benchmarks, so that it never stands where published figures stood.
Example: python -m bench.all --quick --only capture
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

from bench import table
from bench.parts.results import FOLDER, FOLDER_VARIABLE
from servekit.paths import ROOT, with_sources

DRIVERS = Path(__file__).resolve().parent
QUICK_FOLDER = ROOT / "out" / "benchmarks"
SHAPES = (("2048x16x6", "float32"), ("4096x32x4", "bfloat16"))
PROMPTS = (616, 2920)


def commands(quick: bool) -> list[list[str]]:
    """Module of `bench` and arguments of every benchmark, the cheap ones first."""
    listed = [["operations"], ["records"]]
    listed.append(["engine", "llava-shapes", "--rounds", "8" if quick else "60"])
    for shape, dtype in SHAPES:
        for prompt in PROMPTS[:1] if quick else PROMPTS:
            model = ["--shape", shape, "--dtype", dtype, "--prompt", str(prompt)]
            listed.append(["capture", "decode", *model, "--pairs", "32" if quick else "192"])
            listed.append(["capture", "prefill", *model, "--pairs", "1" if quick else "5"])
            listed.append(["memory", *model])
        listed.append(["capture", "attention", *model, "--pairs", "3" if quick else "20"])
    listed.append(["methods", *(["--rounds", "4"] if quick else [])])
    listed.append(["methods", "--shape", SHAPES[0][0], "--rounds", "2" if quick else "8"])
    listed.append(["dataset.runs", *(["--items", "64", "--rounds", "2"] if quick else [])])
    listed.append(["dataset.kills", *(["--items", "1024", "--kills", "1"] if quick else [])])
    listed.append(["endurance", *(["--requests", "400"] if quick else [])])
    if torch.cuda.is_available():
        listed.append(["gpu.answers", "--rounds", "3" if quick else "10"])
    # The others know what to do by themselves.
    apart = {words[0] for words in listed} | {"all", "table", "__init__"}
    listed += [[path.stem] for path in sorted(DRIVERS.glob("*.py")) if path.stem not in apart]
    return listed


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when all were measured; 1 names those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="fewer runs, short prompts, into out/benchmarks: a look, not a result"
    )
    parser.add_argument("--only", default="", help="only commands that contain this text, such as 'capture decode'")
    given = parser.parse_args(arguments)
    folder = QUICK_FOLDER if given.quick else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    env = {**with_sources(os.environ), FOLDER_VARIABLE: str(folder)}
    failed = []
    for words in commands(given.quick):
        line = " ".join(words)
        if given.only not in line:
            continue
        print(f"== {line}", file=sys.stderr)
        if subprocess.run([sys.executable, "-m", f"bench.{words[0]}", *words[1:]], env=env, check=False).returncode:
            failed.append(line)
    table.main(["--folder", str(folder)])
    for line in failed:
        print(f"error: {line}: it failed; see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
