"""Which words of an answer name which unit of a scene: token texts -> namings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from things.kinds import COLOURS, PLURALS
from things.scenes import Unit

Role = Literal["thing", "colour"]
_KIND_OF = {word: kind for kind, plural in PLURALS.items() for word in (kind, plural)}


@dataclass(frozen=True)
class Naming:
    """Answer token `step` is `word`, which names unit `index` of the scene; `asked`: the question has the word too, in
    the singular or the plural, so that it could have been copied without a look at the picture."""

    step: int
    word: str
    role: Role
    index: int
    asked: bool


def naming_tokens(tokens: Sequence[str], units: Sequence[Unit], question: str = "") -> list[Naming]:
    """The kinds' words and colours of an answer that are true of its scene.

    A kind that is not there names nothing, nor does a colour that the named unit has not. A colour belongs to the word
    right after it, or, after "is" and "are", to the last kind before.
    """
    asked = {*re.findall(r"[a-z]+", question.lower())}
    words = [token.strip() for token in tokens]
    places = {unit.kind: index for index, unit in enumerate(units)}
    found: list[Naming] = []
    last: str | None = None
    for step, word in enumerate(words):
        kind = _KIND_OF.get(word)
        if kind is not None:
            last = kind
            if kind in places:
                again = bool(asked & {kind, PLURALS[kind]})
                found.append(Naming(step, word, "thing", places[kind], again))
        elif word in COLOURS:
            after = _KIND_OF.get(words[step + 1]) if step + 1 < len(words) else None
            of = after or last
            if of in places and units[places[of]].colour == word:
                found.append(Naming(step, word, "colour", places[of], word in asked))
    return found
