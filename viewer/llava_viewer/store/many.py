"""Every part of a store at once: one function over all parts, in as many processes as there are processors.

Flow: paths of parts, function -> a pool of processes (none for a few parts) -> results in the order of the parts.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
_FEW_BYTES = 2 << 20
"""What one process reads faster than others start."""
_own: list[Callable[[Path], Any]] = []
"""What a process of the pool does with a part, given to it once."""


def over_parts(
    parts: Sequence[Path],
    work: Callable[[Path], Result],
    told: Callable[[int, int], None] = lambda done, all: None,
    workers: int | None = None,
) -> Iterator[Result]:
    """What a function gives for each part, in their order.

    Args:
        parts: paths, as `Store.parts` lists them.
        work: the function, of a module's top level or a `partial` of one; what it raises ends all.
        told: gets how many parts are done, of how many.
        workers: processes; None for as many as there are processors, or none beside this one for a small store.
    """
    if workers is None:
        small = sum(path.stat().st_size for path in parts) <= _FEW_BYTES
        workers = 1 if small else len(os.sched_getaffinity(0))
    # Processes begin with the main module; a program that is read from a pipe has no file to begin with.
    main = getattr(sys.modules["__main__"], "__file__", None)
    workers = min(workers, len(parts)) if main is None or Path(main).is_file() else 1
    if workers <= 1:
        for done, path in enumerate(parts, 1):
            yield work(path)
            told(done, len(parts))
        return
    # Not forked: the caller's process may hold threads and locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (work,))
    try:
        for done, found in enumerate(pool.map(_one, parts), 1):
            yield found
            told(done, len(parts))
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[Path], Any]) -> None:
    _own[:] = [work]


def _one(part: Path) -> Any:
    return _own[0](part)
