"""Runs every benchmark of this machine, one after another, and renders the table of docs/benchmarks.

Flow: the list below -> one process each, alone on the machine -> docs/benchmarks/*.json -> bench_table. A quick look
goes to out/benchmarks, so that it never stands where published figures stood.
Example: scripts/bench_all.py --quick --only capture
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import bench_table
import torch

from bench.results import FOLDER, FOLDER_VARIABLE

SCRIPTS = Path(__file__).resolve().parent
QUICK_FOLDER = SCRIPTS.parent / "out" / "benchmarks"
SHAPES = (("2048x16x6", "float32"), ("4096x32x4", "bfloat16"))
PROMPTS = (616, 2920)


def commands(quick: bool) -> list[list[str]]:
    """Script and arguments of every benchmark, the cheap ones first."""
    listed = [["bench_operations.py"], ["bench_records.py"]]
    listed.append(["bench_engine.py", "llava-shapes", "--rounds", "8" if quick else "60"])
    for shape, dtype in SHAPES:
        for prompt in PROMPTS[:1] if quick else PROMPTS:
            model = ["--shape", shape, "--dtype", dtype, "--prompt", str(prompt)]
            listed.append(["bench_capture.py", "decode", *model, "--pairs", "32" if quick else "192"])
            listed.append(["bench_capture.py", "prefill", *model, "--pairs", "1" if quick else "5"])
            listed.append(["bench_memory.py", *model])
        listed.append(["bench_capture.py", "attention", *model, "--pairs", "3" if quick else "20"])
    listed.append(["bench_endurance.py", *(["--requests", "400"] if quick else [])])
    if torch.cuda.is_available():
        listed.append(["bench_gpu.py", "--rounds", "3" if quick else "10"])
    # The others know what to do by themselves.
    apart = {words[0] for words in listed} | {"bench_all.py", "bench_table.py", "bench_gpu.py"}
    listed += [[path.name] for path in sorted(SCRIPTS.glob("bench_*.py")) if path.name not in apart]
    return listed


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when all were measured; 1 names those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="fewer runs, short prompts, into out/benchmarks: a look, not a result"
    )
    parser.add_argument("--only", default="", help="only commands that contain this text, such as 'capture.py decode'")
    given = parser.parse_args(arguments)
    folder = QUICK_FOLDER if given.quick else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, FOLDER_VARIABLE: str(folder)}
    failed = []
    for words in commands(given.quick):
        line = " ".join(words)
        if given.only not in line:
            continue
        print(f"== {line}", file=sys.stderr)
        if subprocess.run([sys.executable, str(SCRIPTS / words[0]), *words[1:]], env=env, check=False).returncode:
            failed.append(line)
    bench_table.main(["--folder", str(folder)])
    for line in failed:
        print(f"error: {line}: it failed; see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
