"""What a search for heads found: rankings by kind of word and criterion, roles, and how much was looked at.

Flow: `search.Search` -> `Findings` -> `table`, `sets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llava_eval.ranking import Ranking
from llava_wire.schema import Model

_TEXTS = 6


@dataclass(frozen=True)
class Table:
    """What one criterion says of heads on one kind of words.

    Args:
        kind: of the words.
        criterion: its name.
        ranking: all heads.
        texts: the commonest words.
        again: of a role, how often its head is found in other draws of the images; None where that means nothing.
    """

    kind: str
    criterion: str
    ranking: Ranking
    texts: tuple[str, ...]
    again: float | None = None


@dataclass(frozen=True)
class Findings:
    """What a search found.

    Args:
        tables: by kind of word and criterion.
        roles: heads that serve all words between them, each with the words that are its own; their ranking is over
            those very words.
        model: whose heads they are.
        questions, images, words, needing: how many were looked at; `needing` is None where it was not tested.
        rows: as asked.
        notes: what a reader must know.
    """

    tables: tuple[Table, ...]
    roles: tuple[Table, ...]
    model: Model
    questions: int
    images: int
    words: int
    needing: int | None
    rows: str
    notes: tuple[str, ...]


def counted(number: int, noun: str) -> str:
    """A number of things: "1 word", "2 words"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def commonest(texts: Sequence[str]) -> tuple[str, ...]:
    """The commonest words, in lower case, the commonest first."""
    return tuple(text for text, _ in Counter(text.casefold() for text in texts).most_common(_TEXTS))
