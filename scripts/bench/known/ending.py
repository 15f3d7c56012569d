"""How a measurement of this room ends: its tables printed, its page written anew, and what missed a target said.

Flow: a results file -> `results` -> `concluded` -> the exit status.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.known.figures import missed
from bench.parts.results import PUBLISHED, Result, read
from servekit.cli import say
from servekit.paths import SetupError, shown


def results(path: Path) -> Result:
    """A results file.

    Raises:
        SetupError: it is no such file.
    """
    found = read(path)
    if found is None:
        raise SetupError(f"{path}: got JSON of another kind, expected results; measure again")
    return found


def concluded(path: Path, text: Callable[[Result], str], page: Path, replaced: Callable[[str, Result], str]) -> int:
    """Prints the tables of a results file and, of the published one, writes them into their page.

    Args:
        path: the results file.
        text: its tables.
        page: the document that has them.
        replaced: the document with the tables of a result between their marks.

    Returns:
        the exit status: 1 when a target was missed, which is said, else 0.
    """
    result = results(path)
    say(f"written: {shown(path.resolve())}")
    print(text(result))
    if path == PUBLISHED / path.name:
        page.write_text(replaced(page.read_text("utf-8"), result), encoding="utf-8")
    wrong = [figure for figure in result.figures if missed(figure)]
    for figure in wrong:
        say(f"missed: {figure.name}: {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]")
    return 1 if wrong else 0
