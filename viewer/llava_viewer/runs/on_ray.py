"""A run on a Ray cluster: an actor for each GPU, and each is an ordinary worker of the run.

Flow: the work of one worker -> actors (restarted when they die) -> lines on how far the store is -> when the last has
ended, what went wrong. Nothing passes between actors and driver but that: the store's parts are the checkpoints, and
claims keep two workers from one part, so that a run may be killed anywhere and goes on with the same command.

Ray Data is not used: its checkpoints kept nothing of a killed run at its own block size, and it waited without a word
where actors held most of the logical CPUs. Here what cannot be had is refused before anything starts.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

from llava_wire.errors import RequestError

RESTARTS = 8
"""So often may an actor die before the run ends; the engine's own deaths are counted by the worker."""
_TELL_S = 10.0
_START_S = 300.0
"""How long a cluster may take to start the first actor: others may hold what it needs."""
_TRIES = 3
"""So often is a cluster joined or started: Ray gives a node of its own 30 seconds, a busy machine may need more."""
Work = Callable[[], None]


class Actor:
    """One worker; Ray makes one for each GPU."""

    def here(self) -> tuple[str, int]:
        """Where it runs: host and process."""
        return os.uname().nodename, os.getpid()

    def work(self, work: Work) -> str:
        """Works until nothing is left; what ended it, "" where that is all.

        Errors go as text, because not every exception survives the way between processes.
        """
        try:
            work()
        except Exception as error:
            return f"{error}"[:2000] or type(error).__name__
        return ""


def spread(work: Work, workers: int | None, far: Callable[[], str], say: Callable[[str], None]) -> None:
    """Runs the work of a worker on a Ray cluster, several times side by side, until all have ended.

    Args:
        work: what one does; it finds its part of the work by claims, and may be started again.
        workers: how many; None for one on each GPU, or one where there is none.
        far: how far the run is, in a line.
        say: gets lines for people.

    Raises:
        RequestError: no Ray, a cluster that cannot hold so many, or a worker that could not go on.
    """
    ray = _ray()
    _join(ray, say)
    try:
        _watched(ray, _started(ray, work, workers, say), far, say)
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise RequestError(
            "unavailable", "--ray", f"got {error}, expected the package ray; install the extra `ray` on every node"
        ) from error


def _join(ray: Any, say: Callable[[str], None]) -> None:
    """Joins the cluster that the environment names, or starts one here; a busy machine may take longer than Ray waits.

    Raises:
        RequestError: neither, after several tries.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # a cluster that is started here: 15 would wait behind everything
    for left in reversed(range(_TRIES)):
        try:
            ray.init(include_dashboard=False, log_to_driver=True, logging_level="warning")
            return
        except Exception as error:  # Ray raises the bare class where a node of it does not start in time
            ray.shutdown()
            if not left:
                raise RequestError(
                    "unavailable", "--ray",
                    f"got no cluster after {_TRIES} tries ({_short(error)}), expected one; see whether RAY_ADDRESS is "
                    "right and the machine has room, and run the same command again",
                ) from error  # fmt: skip
            say(f"Ray did not start ({_short(error)}); trying again")


def _short(error: Exception) -> str:
    return (f"{error}".strip() or type(error).__name__).splitlines()[0][:300]


def _started(ray: Any, work: Work, workers: int | None, say: Callable[[str], None]) -> dict[Any, int]:
    """What each actor will say at its end -> its number.

    Raises:
        RequestError: the cluster does not have, or does not give, what they need.
    """
    have = ray.cluster_resources()
    gpus = int(have.get("GPU", 0))
    count, each = workers or gpus or 1, {"CPU": 1, **({"GPU": 1} if gpus else {})}
    for name, needed in each.items():
        if count * needed > have.get(name, 0):
            raise RequestError(
                "invalid", "--ray",
                f"got {count} workers of {needed} {name} each, expected up to the {have.get(name, 0):g} of the "
                "cluster; name fewer, or add nodes",
            )  # fmt: skip
    kind = ray.remote(Actor).options(
        num_cpus=each["CPU"], num_gpus=each.get("GPU", 0), max_restarts=RESTARTS, max_task_retries=RESTARTS
    )
    actors = [kind.remote() for _ in range(count)]
    _wait_for_one(ray, [actor.here.remote() for actor in actors], say)
    return {actor.work.remote(work): number for number, actor in enumerate(actors)}


def _wait_for_one(ray: Any, starting: list[Any], say: Callable[[str], None]) -> None:
    """Waits for the first actor, and says what for: a cluster whose CPUs are taken starts none, in silence.

    Raises:
        RequestError: none has started.
    """
    until = time.monotonic() + _START_S
    while not (found := ray.wait(starting, timeout=_TELL_S)[0]):
        free = ray.available_resources()
        left = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"
        if time.monotonic() > until:
            raise RequestError(
                "unavailable", "--ray",
                f"got no worker within {_START_S:.0f} s, expected one: {left}; end other jobs, or name fewer workers",
            )  # fmt: skip
        say(f"waiting for Ray to start {len(starting)} workers: {left}")
    host, pid = ray.get(found[0])
    say(f"Ray has started the first of {len(starting)} workers (process {pid} on {host})")


def _watched(ray: Any, ends: dict[Any, int], far: Callable[[], str], say: Callable[[str], None]) -> None:
    """Waits for every actor; one that cannot go on ends the run when the others have done what they can.

    Raises:
        RequestError: what it said, or that it died too often.
    """
    left, wrong, told = list(ends), "", ""
    while left:
        done, left = ray.wait(left, timeout=_TELL_S)
        for one in done:
            try:
                said = ray.get(one)
            except ray.exceptions.RayError as error:
                said = f"got a worker that died more than {RESTARTS} times ({type(error).__name__}), expected an answer"
            if said:
                say(f"worker {ends[one]} ended: {said}")
                wrong = wrong or said
        if (line := far()) != told:
            say(told := line)
    if wrong:
        raise RequestError("unavailable", "--ray", f"{wrong}; what is finished stays, and the same command goes on")
