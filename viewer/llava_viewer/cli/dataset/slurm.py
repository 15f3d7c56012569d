"""The command `slurm`: a job script that works on a run with many tasks at a time, printed for `sbatch`.

Flow: arguments of `run`, checked as `run` would -> a script of an array whose tasks are workers of that run.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import sys
from pathlib import Path

from llava_viewer.cli.console import UsageError
from llava_viewer.cli.dataset import running
from llava_viewer.data.reading import is_data

EXAMPLES = """examples:
  llava-viewer slurm --tasks 4 --sbatch=--gpus=1 --sbatch=--time=8:00:00 -- questions.jsonl -o out/ --engine /m > job.sh
  sbatch job.sh

Behind -- stand the arguments of `run`. Each task of the array is a worker of the same run: they share its parts by
claims in OUT, which all nodes must see. A task that is requeued, preempted or killed goes on with what is not done, and
so does the same script when it is submitted again. Nothing is installed and nothing is fetched on the nodes.
"""
_SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
{more}
# Every task is a worker of one run: it takes parts that nobody has, and a requeued one goes on. No root, no internet.
export HF_HUB_OFFLINE=1
echo "task $SLURM_ARRAY_TASK_ID on $(hostname), restart ${{SLURM_RESTART_COUNT:-0}}"
cd {folder}
exec {command} --worker "slurm-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slurm`."""
    parser.set_defaults(run=slurm)
    parser.add_argument("--tasks", type=_tasks, default=2, metavar="N", help="workers (default: %(default)s)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                        help="a further option of sbatch, such as --sbatch=--gpus=1; repeatable")  # fmt: skip
    parser.add_argument("arguments", nargs="+", metavar="-- DATA -o OUT --engine MODEL ...", help="those of `run`")


def slurm(arguments: argparse.Namespace) -> None:
    """Prints the script."""
    checker = argparse.ArgumentParser(prog="llava-viewer slurm --", add_help=False)
    running.add_arguments(checker)
    asked = checker.parse_args(arguments.arguments)
    if not asked.engine and not asked.url and not asked.grpc:
        raise UsageError("slurm: got neither --engine nor --url, expected what answers on a node; name one")
    if not is_data(asked.data):
        raise UsageError(f"slurm: got {asked.data}, which is not there, expected the data; name it as from this folder")
    for name, given, why in (
        ("--dry-run", asked.dry_run, "each task would ask a few items and keep nothing"),
        ("--token", asked.token is not None, "a key would stand in the script; name a file or the environment"),
        ("--ray", asked.ray is not None, "Ray starts workers of its own; take one of both"),
        ("--worker", asked.worker, "each task gets a name of its own"),
    ):
        if given:
            raise UsageError(f"slurm: got {name} for the tasks, expected none: {why}; leave it out")
    for option in arguments.sbatch:
        if not re.fullmatch(r"--?[a-z][^\n\r]*", option):
            raise UsageError(f"--sbatch: got {option!r:.80}, expected an option such as --sbatch=--gpus=1")
    out = asked.output.resolve()
    # Two runs whose folders have one name are two jobs.
    name = f"gaze-{re.sub(r'[^A-Za-z0-9._-]', '_', out.name)[:40]}-{hashlib.sha256(str(out).encode()).hexdigest()[:6]}"
    command = shlex.join([sys.executable, "-m", "llava_viewer.cli", "run", *arguments.arguments])
    print(
        _SCRIPT.format(
            name=name,
            last=arguments.tasks - 1,
            log=f"{name}-%A_%a.log",
            more="".join(f"#SBATCH {option}\n" for option in arguments.sbatch),
            folder=shlex.quote(str(Path.cwd())),
            command=command,
        ),
        end="",
    )


def _tasks(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected 1 to 9999 workers")
    return int(text)
