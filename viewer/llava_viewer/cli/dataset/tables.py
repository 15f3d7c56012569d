"""The command `table`: a store's table as Parquet or CSV, and what came out in a few lines.

Flow: store -> rows -> table.parquet in the store, or CSV on stdout.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from llava_viewer.cli.console import one_line, printable, say
from llava_viewer.runs.told import Summary, summary_lines
from llava_viewer.store.part import Row
from llava_viewer.store.store import Store
from llava_viewer.store.table import TABLE, write_csv, write_table

EXAMPLES = """examples:
  llava-viewer table out/          what came out, and out/table.parquet
  llava-viewer table out/ --csv

The table has a row for each item: id, image, prompt, answer, tokens and their log probabilities, image share, checks,
truth, right or wrong, error, and where its record lies. Lists and objects are JSON in CSV. Parquet needs the extra
`table`.
"""
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Of the store of somebody else, which can be looked at all the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `table`."""
    parser.set_defaults(run=table)
    parser.add_argument("store", type=Path, metavar="OUT", help="the folder of a run")
    parser.add_argument("--csv", action="store_true", help="print the table as CSV instead")


def table(arguments: argparse.Namespace) -> None:
    """Writes the table."""
    if arguments.csv:
        with Store(arguments.store) as store:
            write_csv(store.rows(), sys.stdout)
        return
    keep_table(arguments.store, sys.stdout)


def keep_table(folder: Path, stream: TextIO) -> None:
    """Writes a store's table.parquet where this can be done, and tells what came out."""
    found, store = _kept(folder)
    # Another worker may have finished the run meanwhile, and its table would lie under this one.
    if store.how_far() and not Store(folder).how_far():
        found, store = _kept(folder)
    print(printable("\n".join(map(one_line, summary_lines(found, store.about.items)))), file=stream)


def _kept(folder: Path) -> tuple[Summary, Store]:
    """Writes the table of what is finished now; what came out, and of what."""
    found = Summary()
    with Store(folder) as store:
        rows = _counted(store.rows(), found)
        try:
            path = write_table(folder, rows, store.parts)
            say(one_line(f"wrote {path}"))
        except ImportError as error:
            say(one_line(f"no {TABLE} was written: {error}; the store works without it"))
        except OSError as error:
            if error.errno not in _MAY_NOT_WRITE:
                raise
            say(one_line(f"no {TABLE} was written: {error}; the store works without it, and --csv prints it"))
            rows = _counted(store.rows(), found := Summary())
        for _ in rows:  # those that no table took
            pass
    return found, store


def _counted(rows: Iterator[Row], found: Summary) -> Iterator[Row]:
    for row in rows:
        found.add(row)
        yield row
