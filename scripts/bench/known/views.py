"""Which views are judged: every method behind the door, its variants, single heads, and a head drawn by chance.

Flow: declarations -> `judged` -> the passes that each says it takes -> `scenes_of`, fewer scenes for those of many.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llava_doors.door import METHODS
from llava_doors.family import Layout, ModelFacts
from llava_server.ask.options import parse_options
from llava_server.ask.plan import make_plan
from llava_server.ask.settings import ModelSettings
from llava_server.fit.estimate import Extent, sized
from llava_server.load.checkpoint import check_checkpoint
from llava_server.load.locate import locate
from servekit.paths import MODEL_STORE

View = Mapping[str, Any]
RANDOM_HEAD, UNIFORM = "attention of a random head", "an even map"
HEAD_SETS = ("next-object", "named-object")
SINKS = {"the mean of all heads": {"layers": "all", "heads": "all"}, **{name: {"heads": name} for name in HEAD_SETS}}
"""Selections whose sinks are counted: name -> the view's options."""
_ALL = {"layers": "all", "heads": "all"}
_FEWEST = 2
"""Scenes below which there is no interval."""
_SIZE_PX, _QUESTION, _ROWS, _NEW_TOKENS, _ANSWERS = (192, 192), 32, 8, 48, 5
"""Of an answer: its image, tokens of its question, rows that are asked for; and answers of a scene."""
_FURTHER: Mapping[str, View] = {
    **{f"attention, head {name}": {"method": "attention", "heads": name} for name in HEAD_SETS},
    "contributions, rival runner-up": {"method": "contributions", "parameters": {"rival": "runner-up"}},
}
"""What the door does not list: single heads, and parameters that change no quantity but the question."""


def judged() -> dict[str, View]:
    """Name -> options of every view that is judged (of text: none); all heads where a method tells heads apart."""
    found: dict[str, View] = {}
    for name, declared in METHODS.known().items():
        if declared.is_of_text:
            continue
        base = {"method": name, **(_ALL if declared.traits.get("heads", True) else {})}
        found[name] = base
        for one in declared.variants:
            found[f"{name}, {one.parameter} {one.value}"] = {**base, "parameters": {one.parameter: one.value}}
    return dict(sorted({**found, **_FURTHER}.items()))


@dataclass(frozen=True)
class Served:
    """A model of the store as far as it is known without its weights."""

    facts: ModelFacts
    settings: ModelSettings
    layout: Layout

    @classmethod
    def of(cls, model: str) -> Served:
        """The model of this name, for one image."""
        located = locate(MODEL_STORE / f"{model}.yaml")
        family, processor = check_checkpoint(located.folder, located.settings, located.cure)
        facts = family.facts(getattr(torch, located.settings.dtype))
        return cls(facts, located.settings, family.layout(processor, [_SIZE_PX]))

    def passes(self, view: View) -> int:
        """Passes over prompt and answer that a view takes for the words of one answer, by its method's own word."""
        asked = {"views": [{"name": "one", **view}], "steps": [*range(_ROWS)], "max_new_tokens": _NEW_TOKENS}
        plan = make_plan(parse_options(asked), self.facts, self.settings)
        extent = Extent.of(plan, _QUESTION + self.layout.tokens, self.layout, 0, _QUESTION)
        return sum(sized(plan, self.facts, extent).passes.values())


def scenes_of(passes: int, count: int, budget: int) -> int:
    """On how many of `count` scenes a view is judged that takes so many passes an answer: what the budget allows."""
    return count if not passes else min(count, max(_FEWEST, budget // (passes * _ANSWERS)))


def named(views: Mapping[str, View]) -> list[dict[str, Any]]:
    """The views as a request has them."""
    return [{"name": name, **view} for name, view in views.items()]


def random_head(facts: ModelFacts, rng: random.Random) -> View:
    """One head of one layer."""
    return {"heads": [[rng.randrange(facts.layers), rng.randrange(facts.heads)]]}
