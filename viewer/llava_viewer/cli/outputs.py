"""What a run of the command may write: every output is held against its inputs and its other outputs first.

Flow: inputs -> `Outputs` -> `claim` each path, before anything is asked for or written -> `write`. An output is never
an input or another output. It takes the place of a file of its own kind that this program wrote, which is told, and of
any other only with --force.
"""

from __future__ import annotations

import argparse
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from llava_viewer.cli.console import UsageError, counted, one_line, print_path, say, size
from llava_viewer.files import EMPTY, kind_of, written


def add_force(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The argument that lets outputs replace any file."""
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace any file; without it only one of the same kind that llava-viewer wrote is replaced",
    )


class Outputs:
    """The files that one run of the command writes.

    Args:
        inputs: the files that it reads; None stands for one that was not given.
        force: files of another kind may be replaced.
    """

    def __init__(self, inputs: Iterable[Path | None], *, force: bool) -> None:
        self._inputs = [path for path in inputs if path is not None]
        self._claimed: list[tuple[str, Path]] = []
        self._force = force
        self._own: set[Path] = set()
        self._held: dict[Path, str] = {}

    def claim(self, option: str, path: Path | None, kind: str, *, own: bool = False) -> None:
        """Keeps a path for an output of this kind (`llava_viewer.files`); an option that was not given keeps nothing.

        Args:
            own: the name is the command's own, in a folder where somebody else may have put a link under it. Such a
                link is never written through: it is refused, and with --force replaced.

        Raises:
            UsageError: it is a folder, an input or another output, its folder cannot be written to, or it holds
                something else.
        """
        if path is None:
            return
        got = f"{option}: got {one_line(str(path))}"
        if path.is_dir():
            raise UsageError(f"{got}, a folder, expected a file; add a name")
        if own and path.is_symlink() and not self._force:
            raise UsageError(
                f"{got}, a link to {one_line(os.readlink(path))}, expected a file; remove it, or replace it with "
                "--force"
            )
        if path.exists() and not path.is_file():
            return  # a device or a pipe: nothing is lost
        taken = next((other for other in self._inputs if _same(path, other)), None)
        if taken is not None:
            raise UsageError(f"{got}, which this command reads, expected any other file; name another")
        for other, claimed in self._claimed:
            if _same(path, claimed):
                raise UsageError(f"{got}, where {other} goes, expected a file of its own for each; name another")
        _check_folder(got, path)
        held = kind_of(path) if path.is_file() else EMPTY
        if held not in (EMPTY, kind) and not self._force:
            raise UsageError(f"{got}, which holds {held}, expected a new file or {kind}; name another, or add --force")
        self._claimed.append((option, path))
        self._held[path] = held
        if own:
            self._own.add(path)

    def write(self, path: Path, data: bytes, *, told: bool = True) -> None:
        """Writes a claimed file in one step, and says so where it is not one of many that are told together."""
        with written(path, through_links=path not in self._own) as partial:
            partial.write_bytes(data)
        if told:
            say(f"wrote {one_line(str(path))} ({size(len(data))}){self.over([path])}")

    def over(self, paths: Iterable[Path]) -> str:
        """What claimed paths held before they were written, to stand behind what is said of them; "" for nothing."""
        held = [self._held.get(path, EMPTY) for path in paths]
        known = [one for one in held if one != EMPTY]
        if not known:
            return ""
        return f", over {known[0]}" if len(held) == 1 else f", over {counted(len(known), 'earlier file')}"

    @staticmethod
    def name(path: Path) -> None:
        """Prints the path of a file; not that of a device or pipe, which may be where the file itself went."""
        if path.is_file():
            print_path(path)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file: through links of both kinds, and where a file system ignores case."""
    # Unlike a path's own `exists` this takes STORE::ID of an id that is longer than names of files are.
    there = [os.path.exists(path) for path in (one, other)]
    if all(there):
        return os.path.samefile(one, other)
    if any(there):
        return os.path.realpath(one) == os.path.realpath(other)
    # Neither is there yet, so that nobody can tell whether this file system would take the names for one.
    return _folded(one) == _folded(other)


def _folded(path: Path) -> str:
    real = Path(os.path.realpath(path))
    return f"{real.parent}/{unicodedata.normalize('NFC', real.name).casefold()}"


def _check_folder(got: str, path: Path) -> None:
    """Refuses a folder that cannot be made or written to, so that no answer is asked for in vain."""
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{got}, but {folder} is no folder, expected a file in a folder; name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{got}, but nothing may be written to {folder}, expected a folder of yours; name another")
