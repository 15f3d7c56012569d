"""Says which words of an answer are about which object of a scene: token texts + objects -> namings, judged words.

No torch, so that any record can be judged, whoever made it. Row t of attention is the row that *predicted* token t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shapes.scenes import COLOURS, SHAPES, SceneObject

Role = Literal["colour", "shape"]
Group = Literal["colour", "shape", "what colour", "what shape", "where", "yes", "again"]
"""Words about one object: the colours and shapes of a description; what answers "What colour", "What shape" and
"Where"; the "Yes" to an object; and a name that stands in the question already."""
_PLACES = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class Naming:
    """Answer token `step` is `word`, which names object `index` of the scene; `asked`: the question has the word too,
    so that it could have been copied without a look at the picture."""

    step: int
    word: str
    role: Role
    index: int
    asked: bool


def naming_tokens(tokens: Sequence[str], objects: Sequence[SceneObject], question: str = "") -> list[Naming]:
    """Which tokens (their texts, in order) name which object. Colour and shape words pair up in the order they come;
    a pair that is no object of the scene, and every word of an answer that begins with "No", names nothing."""
    words = [(step, token.strip()) for step, token in enumerate(tokens)]
    if any(word == "No" for _, word in words[:1]):
        return []
    asked = set(question.replace("?", " ").replace(".", " ").split())
    names = [(step, word) for step, word in words if word in COLOURS or word in SHAPES]
    namings: list[Naming] = []
    while len(names) >= 2:
        pair = names[:2]
        parts = {_role(word): word for _, word in pair}
        if len(parts) < 2:  # two colours or two shapes: the first one stands alone
            names = names[1:]
            continue
        names = names[2:]
        for index, thing in enumerate(objects):
            if (thing.colour, thing.shape) == (parts["colour"], parts["shape"]):
                namings += [Naming(step, word, _role(word), index, word in asked) for step, word in pair]
    return namings


@dataclass(frozen=True)
class Judged:
    """Answer token `step` is of a group and is about object `index` of the scene; `beside`: the nearest token that is
    not about it, the one after if that is so, which serves as a row misread by one."""

    step: int
    group: Group
    index: int
    beside: int | None


def judged_words(
    tokens: Sequence[str], objects: Sequence[SceneObject], kind: str, question: str, right: bool
) -> list[Judged]:
    """The tokens whose object is known, of the kinds "describe", "colour-of", "shape-of", "where" and "exists-yes".

    Places and "Yes" count in answers that are right alone: those of a wrong answer are about nothing.
    """
    named: list[tuple[int, Group, int]] = []
    for one in naming_tokens(tokens, objects, question):
        group = _GROUPS.get((kind, one.role), "again")
        named.append((one.step, "again" if one.asked else group, one.index))
    about = [index for index, thing in enumerate(objects) if thing.name in question]
    if right and about and kind in ("where", "exists-yes"):
        told = {"where": _PLACES, "exists-yes": ("Yes",)}[kind]
        group = "where" if kind == "where" else "yes"
        named += [(step, group, about[0]) for step, token in enumerate(tokens) if token.strip() in told]
    taken = {(step, index) for step, _, index in named}
    found = []
    for step, group, index in sorted(named):
        free = [at for at in (step + 1, step - 1) if 0 <= at < len(tokens) and (at, index) not in taken]
        found.append(Judged(step, group, index, free[0] if free else None))
    return found


_GROUPS: dict[tuple[str, Role], Group] = {
    ("describe", "colour"): "colour",
    ("describe", "shape"): "shape",
    ("colour-of", "colour"): "what colour",
    ("shape-of", "shape"): "what shape",
}


def _role(word: str) -> Role:
    return "colour" if word in COLOURS else "shape"
