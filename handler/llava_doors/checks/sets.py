"""Your sets: how probable words stay when the model sees only the patches that the request names, set by set.

Flow: sets of patches that are shown, or hidden -> log probabilities, everything else being the mean embedding -> each
set's, beside those with all patches and with none. Insertion and deletion of any map are made of this.
"""

from __future__ import annotations

from collections.abc import Mapping

from llava_doors.asked import Reach, Shape
from llava_doors.check import Answer, AskedCheck, Check, Finding
from llava_doors.door import Declaration, DoorError, Parameter
from llava_doors.method import SIDE_BY_SIDE, Needs, Seen
from llava_wire.choose import ordinary_tokens
from llava_wire.findings.sets import ALL, MAX_SET_STEPS, MAX_SETS, NAME, NONE, SetCheck

DECLARATION = Declaration(
    name=NAME,
    summary="Words with sets of patches of your own, shown alone or hidden, beside all patches and none.",
    implementation="llava_doors.checks.sets:Sets",
    parameters=(
        Parameter("steps", "steps", "all", "Which words, as tokens of the answer from 0; all but special ones."),
        Parameter("shown", "lists", {}, "By a number of your own, the patches that alone are shown."),
        Parameter("hidden", "lists", {}, "By another number, the patches that alone are hidden."),
    ),
)
_NUMBER_CHARS = 16
"""A log probability of seven digits with its sign, exponent and space."""
_SET_CHARS = 24
"""A set's name and the signs about its text."""


class Sets(Check):
    """A forward for each set and two more, as many side by side as it declares; all words at once."""

    def needs(self, asked: AskedCheck, facts: Shape, reach: Reach) -> Needs:
        """See `Check`."""
        shown, hidden = _given(asked)
        if both := {*shown} & {*hidden}:
            raise DoorError(f"parameters.hidden: got the number {min(both)}, which a shown set has; number them apart")
        if not 0 < (count := len(shown) + len(hidden)) <= MAX_SETS:
            raise DoorError(f"parameters.shown: got {count} sets with hidden ones, expected 1 to {MAX_SETS}; ask twice")
        for name, sets in (("shown", shown), ("hidden", hidden)):
            for number, places in sets.items():
                if places[-1] >= reach.patches:
                    raise DoorError(
                        f"parameters.{name}.{number}: got patch {places[-1]}, expected 0 to {reach.patches - 1}; count "
                        "patches row by row, in the order of the maps"
                    )
        steps = asked.parameters["steps"]
        if steps != "all" and len(steps) > MAX_SET_STEPS:
            raise DoorError(f"parameters.steps: got {len(steps)} words, expected up to {MAX_SET_STEPS}; name fewer")
        return Needs(rows="none", passes=SIDE_BY_SIDE)

    def passes(self, asked: AskedCheck, facts: Shape, reach: Reach) -> int:
        """See `Check`."""
        return 2 + sum(map(len, _given(asked)))

    def record_bytes(self, asked: AskedCheck, reach: Reach) -> int:
        """See `Check`: of each set a number for each word."""
        words = min(MAX_SET_STEPS, reach.rows)
        return 1024 + (2 + sum(map(len, _given(asked)))) * (_SET_CHARS + words * _NUMBER_CHARS)

    def test(self, seen: Seen, answer: Answer, asked: AskedCheck) -> Finding:
        """See `Check`."""
        import torch

        steps = asked.parameters["steps"]
        wanted = (ordinary_tokens(answer.tokens) if steps == "all" else [*steps])[:MAX_SET_STEPS]
        if late := [step for step in wanted if step >= len(answer.tokens)]:
            return Finding(reason=f"the answer ended at step {len(answer.tokens) - 1}, before the word at {late[0]}")
        if not wanted:
            return Finding(reason="the answer has no words")
        shown, hidden = _given(asked)
        names = [ALL, NONE, *map(str, shown), *map(str, hidden)]
        keep = torch.zeros((len(names), seen.layout.patches), dtype=torch.bool)
        keep[0] = True
        for row, places in enumerate(shown.values(), 2):
            keep[row, list(places)] = True
        for row, places in enumerate(hidden.values(), 2 + len(shown)):
            keep[row] = True
            keep[row, list(places)] = False
        found = seen.log_probs(keep)[:, wanted].double().clamp(max=0.0)  # [set, word]
        if not bool(found.isfinite().all()):
            return Finding(reason="log probabilities with some patches are not finite")
        numbers = {name: tuple(row) for name, row in zip(names, found.tolist(), strict=True)}
        return Finding(SetCheck(tuple(wanted), numbers).to_plain())


def _given(asked: AskedCheck) -> tuple[Mapping[int, tuple[int, ...]], Mapping[int, tuple[int, ...]]]:
    return asked.parameters["shown"], asked.parameters["hidden"]
