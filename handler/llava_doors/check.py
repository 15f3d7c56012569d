"""What a check of an answer is: what it needs of the finished run, what it may see of it, and what it finds.

Flow: `Check.needs` (before anything runs: what it names is estimated, and it refuses what cannot be) -> the run and its
views -> `Check.test` with `Seen` and `Answer` -> `Finding`, which the record holds under the check's name.

Importing this needs no torch, and a check knows nothing of the server but these words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llava_doors.asked import Reach, Shape
from llava_doors.method import Needs, Seen
from llava_wire.schema import Query, Token
from llava_wire.view import View


@dataclass(frozen=True)
class AskedView:
    """One view of the request.

    Args:
        name: unique in the request.
        has_rows: whether it has maps for every token; else one for the whole answer.
        maps: how many there are for each token.
    """

    name: str
    has_rows: bool
    maps: int


@dataclass(frozen=True)
class AskedCheck:
    """What was asked of a check.

    Args:
        parameters: the value of each declared parameter.
        views: of the request, in its order.
        steps: which of the answer's tokens have rows, of views that have some; none where the question's alone have.
    """

    parameters: Mapping[str, Any]
    views: tuple[AskedView, ...]
    steps: Literal["all"] | tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """The finished answer as the record will hold it.

    Args:
        tokens: of the answer, the end of sequence included.
        queries: the rows of every view that has some.
        views: by name.
    """

    tokens: tuple[Token, ...]
    queries: tuple[Query, ...]
    views: Mapping[str, View]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        figures: plain values for the record's checks, beside its "result", which is "measured".
        tokens: number of a token by name (`llava_wire.schema.TOKEN_FIGURES`) -> one for each token of the answer.
        reason: why nothing could be tested; then the result is "not tested", and the rest is left out.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reason: str = ""


class Check(ABC):
    """A test of a finished answer. Made anew for each question below: what it keeps is gone at the next."""

    @abstractmethod
    def needs(self, asked: AskedCheck, facts: Shape, reach: Reach) -> Needs:
        """What it needs of the run: `Needs(rows="none", passes=...)`, and gradients "passes" or "whole" where it
        differentiates.

        Rows, values, hidden states and other questions are not kept for checks.

        Raises:
            DoorError: the request asks for what cannot be, "parameters.view: got X, expected Y; do Z".
        """

    def passes(self, asked: AskedCheck, facts: Shape, reach: Reach) -> int:
        """Passes over prompt and answer that it runs in all, at most; what is too long is refused."""
        return 0

    def extra_bytes(self, asked: AskedCheck, facts: Shape, reach: Reach) -> int:
        """Device memory of its own at one time, beside what `needs` names."""
        return 0

    def record_bytes(self, asked: AskedCheck, reach: Reach) -> int:
        """What its figures take in record.json, at most."""
        return 1024

    @abstractmethod
    def test(self, seen: Seen, answer: Answer, asked: AskedCheck) -> Finding:
        """What it finds of the answer; `seen` has a row for every token of it, whichever are shown."""
