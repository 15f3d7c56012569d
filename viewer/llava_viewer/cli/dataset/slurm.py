"""The command `slurm`: a job script that works on a run with many tasks at a time, printed for `sbatch`.

Flow: arguments of `run`, checked as `run` would -> a script of an array whose tasks are workers of that run.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from llava_viewer.cli.console import UsageError
from llava_viewer.cli.dataset import tasks
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
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                        help="a further option of sbatch, such as --sbatch=--gpus=1; repeatable")  # fmt: skip
    tasks.add_arguments(parser)


def slurm(arguments: argparse.Namespace) -> None:
    """Prints the script."""
    found = tasks.tasks_of(arguments, "slurm")
    if not is_data(found.asked.data):
        raise UsageError(
            f"slurm: got {found.asked.data}, which is not there, expected the data; name it as from this folder"
        )
    for option in arguments.sbatch:
        if not re.fullmatch(r"--?[a-z][^\n\r]*", option):
            raise UsageError(f"--sbatch: got {option!r:.80}, expected an option such as --sbatch=--gpus=1")
    name = found.name(found.asked.output.resolve())
    print(
        _SCRIPT.format(
            name=name,
            last=found.count - 1,
            log=f"{name}-%A_%a.log",
            more="".join(f"#SBATCH {option}\n" for option in arguments.sbatch),
            folder=shlex.quote(str(Path.cwd())),
            command=shlex.join([sys.executable, "-m", "llava_viewer.cli", "run", *found.arguments]),
        ),
        end="",
    )
