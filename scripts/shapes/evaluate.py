"""Measures the small LLaVA on held-out scenes: exact match, and where its attention lands, with 95 % intervals.

Heads are chosen by role on validation scenes and frozen; every figure is from test scenes. Neither are training scenes.

Example:
    python -m shapes.evaluate model_store/llava-shapes --out model_store/llava-shapes/evaluation.json
"""

from __future__ import annotations

import sys

from shapes.pointing import naming_tokens
from shapes.questions import KINDS
from shapes.sightings import held_out
from teach.evaluation import Subject, main
from teach.figures import ALL, Figures
from teach.sightings import Truth

FIGURES = Figures(
    KINDS,
    {
        "describe, colour words": lambda seen: seen.kind == "describe" and seen.naming.role == "colour",
        "describe, shape words": lambda seen: seen.kind == "describe" and seen.naming.role == "shape",
        ALL: lambda seen: True,
        "words not in the question": lambda seen: not seen.naming.asked,
        "words in the question": lambda seen: seen.naming.asked,
        "colour-of, the colour": lambda seen: seen.kind == "colour-of" and not seen.naming.asked,
        "shape-of, the shape": lambda seen: seen.kind == "shape-of" and not seen.naming.asked,
        "exists-yes": lambda seen: seen.kind == "exists-yes",
        "where": lambda seen: seen.kind == "where",
    },
    {"next-object": "describe, colour words", "named-object": "describe, shape words"},
)

SUBJECT = Subject(
    held_out,
    Truth(
        lambda tokens, scene, question: naming_tokens(tokens, scene.objects, question),
        lambda scene: [[thing.box] for thing in scene.objects],
    ),
    FIGURES,
)

if __name__ == "__main__":
    sys.exit(main(SUBJECT, __doc__))
