"""What job scripts and manifests have in common: many tasks, each a worker of one run.

Flow: arguments behind `--`, checked as `run` would -> `Tasks`: the run's name and what a task runs.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePath

from llava_viewer.cli.console import UsageError
from llava_viewer.cli.dataset import running


@dataclass(frozen=True)
class Tasks:
    """The tasks of a run.

    Args:
        asked: the arguments of `run` as they were understood; arguments: as they were written.
        count: how many.
    """

    asked: argparse.Namespace
    arguments: list[str]
    count: int

    def name(self, out: PurePath) -> str:
        """What a job of the run is called: two runs whose folders have one name are two jobs.

        Args:
            out: the store's folder, absolute.
        """
        digest = hashlib.sha256(str(out).encode()).hexdigest()[:6]
        return f"gaze-{re.sub(r'[^A-Za-z0-9._-]', '_', out.name)[:40]}-{digest}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The number of tasks, and the arguments of `run`."""
    parser.add_argument("--tasks", type=_tasks, default=2, metavar="N", help="workers (default: %(default)s)")
    parser.add_argument("arguments", nargs="+", metavar="-- DATA -o OUT --engine MODEL ...", help="those of `run`")


def tasks_of(arguments: argparse.Namespace, where: str) -> Tasks:
    """The tasks that were asked for.

    Args:
        where: what to call the command in errors.

    Raises:
        UsageError: what no task can do.
    """
    checker = argparse.ArgumentParser(prog=f"llava-viewer {where} --", add_help=False)
    running.add_arguments(checker)
    asked = checker.parse_args(arguments.arguments)
    if not asked.engine and not asked.url and not asked.grpc:
        raise UsageError(f"{where}: got neither --engine nor --url, expected what answers there; name one")
    for name, given, why in (
        ("--dry-run", asked.dry_run, "each task would ask a few items and keep nothing"),
        ("--token", asked.token is not None, "a key would stand in the file; name a file or the environment"),
        ("--ray", asked.ray is not None, "Ray starts workers of its own; take one of both"),
        ("--worker", asked.worker, "each task gets a name of its own"),
    ):
        if given:
            raise UsageError(f"{where}: got {name} for the tasks, expected none: {why}; leave it out")
    return Tasks(asked, list(arguments.arguments), arguments.tasks)


def _tasks(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected 1 to 9999 workers")
    return int(text)
