"""Measures llava-things on held-out scenes: exact match, and where its attention lands, with 95 % intervals.

Heads are chosen by role on validation scenes and frozen; every figure is from test scenes. Neither are training scenes.

Example:
    python -m things.evaluate model_store/llava-things --out model_store/llava-things/evaluation.json
"""

from __future__ import annotations

import sys

from teach import sightings
from teach.evaluation import Subject, main
from teach.figures import ALL, Figures
from teach.sightings import Item, Truth
from things.naming import naming_tokens
from things.questions import QUESTIONS, ask_all
from things.scenes import Scene, make_scene

_BESIDE = ("left-of", "right-of", "above", "below")

FIGURES = Figures(
    QUESTIONS,
    {
        "describe, things": lambda seen: seen.kind == "describe" and seen.naming.role == "thing",
        "describe, colours": lambda seen: seen.kind == "describe" and seen.naming.role == "colour",
        ALL: lambda seen: True,
        "words not in the question": lambda seen: not seen.naming.asked,
        "words in the question": lambda seen: seen.naming.asked,
        "what is beside, above or below": lambda seen: seen.kind in _BESIDE and not seen.naming.asked,
        "largest, the thing": lambda seen: seen.kind == "largest",
        "colour, the colour": lambda seen: seen.kind == "colour" and seen.naming.role == "colour",
        "how-many, the thing": lambda seen: seen.kind == "how-many",
    },
    {"named-thing": "describe, things", "named-colour": "describe, colours"},
)


def held_out(seed: int, count: int) -> list[Item[Scene]]:
    """`count` scenes with one question of every kind that each allows."""
    return sightings.held_out(seed, count, make_scene, lambda rng, scene: ask_all(rng, scene.layout))


SUBJECT = Subject(
    held_out,
    Truth(
        lambda tokens, scene, question: naming_tokens(tokens, scene.layout.units, question),
        lambda scene: [unit.boxes for unit in scene.layout.units],
    ),
    FIGURES,
)

if __name__ == "__main__":
    sys.exit(main(SUBJECT, __doc__))
