"""A served model that is asked how probable words stay when it sees only some of the patches.

Flow: a record + sets of patches -> replays with the check `sets`, each set once -> log probabilities of all words that
were named -> `Scorer` of one word or phrase, which metrics take (`llava_eval.metric.Scorer`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llava_viewer.client.replays.checking import UNSEEN, check_same
from llava_wire.findings.sets import ALL, MAX_SET_STEPS, MAX_SETS, NAME, NONE, SetCheck
from llava_wire.record import Record

Replay = Callable[[Record, Mapping[str, Any]], Record]
"""Asks a model for other views of a record, as `Client.replay` does."""
_MOST_NUMBERS = 100_000
"""Patches that the sets of one request name: servers bound what a request's JSON holds."""


@dataclass(frozen=True)
class Scorer:
    """See `llava_eval.metric.Scorer`: log p of a word, or of a phrase as a whole.

    Args:
        asked: what asks.
        steps: the word's tokens.
    """

    asked: SetScores
    steps: tuple[int, ...]
    baseline: str = "mean embedding"

    def log_probs(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """log p in nats of the tokens together, each given the words before it, once for every set of patches.

        Args:
            keep: bool [set, patch]; patches in the order of the maps, those of all grids; True: shown.

        Returns:
            float64 [set].

        Raises:
            RequestError, ValueError: as `SetScores.log_probs`.
        """
        return self.asked.log_probs(keep, self.steps)


class SetScores:
    """Log probabilities of an answer's words with sets of patches; each set is asked once, for all words together.

    Args:
        replay: asks the model that answered.
        record: the answer, with its image unless `replay` knows it.
        steps: the tokens that will be asked about.

    Raises:
        ValueError: more tokens than one check takes, or one that the answer does not have.
    """

    def __init__(self, replay: Replay, record: Record, steps: Sequence[int]) -> None:
        wanted = tuple(sorted({*steps}))
        if not 0 < len(wanted) <= MAX_SET_STEPS:
            raise ValueError(f"steps: got {len(wanted)} tokens, expected 1 to {MAX_SET_STEPS}; ask in parts")
        if not 0 <= wanted[0] <= wanted[-1] < len(record.tokens):
            last = len(record.tokens) - 1
            raise ValueError(f"steps: got {[wanted[0], wanted[-1]]}, expected tokens of the answer, 0 to {last}")
        self._replay, self._record = replay, record
        self._places = {step: place for place, step in enumerate(wanted)}
        self._known: dict[bytes, npt.NDArray[np.float64]] = {}

    def of(self, steps: Sequence[int]) -> Scorer:
        """The scorer of one word, or of a phrase of several tokens.

        Raises:
            ValueError: a token that was not named before, or one that comes twice.
        """
        if len({*steps}) < len(steps) or not {*steps} <= {*self._places}:
            raise ValueError(f"steps: got {[*steps]}, expected tokens of {[*self._places]}, each once")
        return Scorer(self, tuple(steps))

    def log_probs(self, keep: npt.NDArray[np.bool_], steps: Sequence[int]) -> npt.NDArray[np.float64]:
        """See `Scorer.log_probs`.

        Raises:
            RequestError: the model refuses.
            ValueError: sets of another shape, or a replay that is not of this answer.
        """
        patches = next(iter(self._record.views.values())).patches
        if keep.dtype != np.bool_ or keep.ndim != 2 or keep.shape[1] != patches:
            raise ValueError(f"keep: got {list(keep.shape)} in {keep.dtype}, expected [set, {patches}] in bool")
        names = [row.tobytes() for row in keep]
        missing = {name: row for name, row in zip(names, keep, strict=True) if name not in self._known}
        while missing:
            batch, numbers = dict[bytes, npt.NDArray[np.bool_]](), 0
            while missing and len(batch) < MAX_SETS and (not batch or numbers < _MOST_NUMBERS):
                name, row = missing.popitem()
                batch[name] = row
                numbers += min(int(row.sum()), int((~row).sum()))
            self._ask(batch)
        rows = np.stack([self._known[name] for name in names]) if names else np.empty((0, len(self._places)))
        return np.asarray(rows[:, [self._places[step] for step in steps]].sum(1), np.float64)

    def _ask(self, batch: Mapping[bytes, npt.NDArray[np.bool_]]) -> None:
        """Asks about some sets; each is named by whichever is shorter, what it shows or what it hides."""
        named: dict[bytes, str] = {}
        sets: dict[str, dict[str, list[int]]] = {"shown": {}, "hidden": {}}
        for number, (name, row) in enumerate(batch.items()):
            if row.all() or not row.any():
                named[name] = ALL if row.all() else NONE  # found with every check
                continue
            which = "shown" if row.sum() * 2 <= row.size else "hidden"
            sets[which][str(number)] = np.flatnonzero(row if which == "shown" else ~row).tolist()
            named[name] = str(number)
        if not sets["shown"] and not sets["hidden"]:
            sets["hidden"]["0"] = [0]  # a check of no set is refused
        given = {name: found for name, found in sets.items() if found}
        check = {"name": NAME, "steps": [*self._places], **given}
        again = self._replay(self._record, {**UNSEEN, "check": [check]})
        check_same(self._record, again)
        found = SetCheck.of_checks(again.facts.checks)
        if found is None or list(found.steps) != [*self._places] or not {*named.values()} <= {*found.logprobs}:
            said = again.facts.checks.get(NAME, {}).get("reason", "no such check in the reply")
            raise ValueError(f"check {NAME!r}: got {said!s:.300}, expected log probabilities of every set")
        self._known |= {name: np.array(found.logprobs[what]) for name, what in named.items()}
