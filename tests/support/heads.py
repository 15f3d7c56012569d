"""Runs and a server for searches for heads, without a model: known maps of every head, known contributions.

Flow: words of an answer, and for each of them the patch that matters -> a record in which one head looks at it always,
another never -> `Canned`, which answers questions with such records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llava_wire import Record
from llava_wire.quantity import Quantity
from llava_wire.schema import Image, MethodFacts, Query
from llava_wire.view import View
from support.synthetic import make_record

LAYERS, HEADS, GRID = 3, 2, 4
ALWAYS, NEVER = (1, 1), (2, 0)
"""The head whose strongest patch is the one that matters for the word, and one whose strongest patch never is."""
PATCHES = GRID * GRID


def told(
    words: Sequence[str], patches: Sequence[int], *, needing: Sequence[bool] | None = None, digest: str = "a"
) -> Record:
    """A run with all heads' maps and contributions.

    Args:
        words: the answer's tokens, its end not among them.
        patches: for each of them the patch that matters.
        needing: which of them need the image; None where that was not tested.
        digest: of the image's file.
    """
    made = make_record(grid=GRID, layers=LAYERS, heads=HEADS, words=words, reductions=("none",), precision="float32")
    rows = len(made.tokens)
    rng = np.random.default_rng(len(words))
    maps = rng.uniform(0.001, 0.01, (rows, LAYERS, HEADS, PATCHES)).astype(np.float32)
    logit = rng.normal(0, 0.1, (rows, PATCHES)).astype(np.float32)
    for row, patch in enumerate(patches):
        logit[row, patch] = 5.0
        maps[(row, *ALWAYS, patch)] = 0.5
        maps[(row, *NEVER, (patch + 5) % PATCHES)] = 0.5
        others = rng.integers(0, PATCHES, (LAYERS, HEADS))
        for layer, head in np.ndindex(LAYERS, HEADS):
            if (layer, head) not in (ALWAYS, NEVER):
                maps[row, layer, head, others[layer, head]] = 0.3
    one = made.views["none"]
    shares = np.full((*maps.shape[:-1], 4), 0.25, np.float32)
    heads = View.of(replace(one.facts, name="heads"), maps, shares, made.grids)
    quantity = Quantity("contribution to the logit", "logit", signed=True, additive=True)
    facts = replace(
        one.facts, name="logit", reduction="layers_heads", axes=("query", "patch"), layers=(), heads=(),
        method=MethodFacts("contributions", {"rival": ""}), quantity=quantity,
    )  # fmt: skip
    parts = View.of(facts, logit, None, made.grids)
    [image] = made.facts.images
    found = replace(made.facts, images=(Image(image.width_px, image.height_px, digest * 64, image.pixels_sha256),))
    if needing is not None:
        blind = [-5.0 if one else -0.2 for one in needing]
        tokens = [replace(token, without_image=low) for token, low in zip(made.tokens, [*blind, -0.1], strict=True)]
        checks = {"image": {"result": "measured", "needing": sum(needing), "of": len(words), "nats": 1.0}}
        found = replace(found, tokens=tuple(tokens), checks=checks)
    return replace(made, facts=found, views={"heads": heads, "logit": parts}, picture=None)


class Canned:
    """Answers each image with its run; keeps what it was asked for.

    Args:
        runs: by the image's file name.
    """

    def __init__(self, runs: Mapping[str, Record]) -> None:
        self.runs, self.asked = dict(runs), list[tuple[str, Mapping[str, Any]]]()

    def predict(self, image: Path, prompt: str, options: Mapping[str, Any]) -> Record:
        """The run with as few maps as were asked for."""
        self.asked.append(("predict", options))
        whole = self.runs[image.name]
        few = replace(whole.views["heads"].facts, name="few", layers=(0,), heads=(0,), axes=("query", "patch"),
                      reduction="layers_heads")  # fmt: skip
        maps, shares = whole.views["heads"].patches_float()[:, 0, 0], np.full((len(whole.queries), 4), 0.25, np.float32)
        return replace(whole, views={"few": View.of(few, maps, shares, whole.grids)})

    def replay(self, record: Record, options: Mapping[str, Any], *, image: Path | None) -> Record:
        """The layers and steps that were asked for."""
        self.asked.append(("replay", options))
        whole = next(one for one in self.runs.values() if one.answer == record.answer)
        steps = list(options["steps"])
        queries = tuple(Query("answer", step, whole.queries[step].position, step) for step in steps)
        views: dict[str, View] = {}
        for asked in options["views"]:
            source = whole.views["logit" if asked.get("method") else "heads"]
            maps, facts, shares = source.patches_float()[steps], replace(source.facts, name=asked["name"]), None
            if "layers" in asked:
                maps, facts = maps[:, asked["layers"]], replace(facts, layers=tuple(asked["layers"]))
                shares = np.full((*maps.shape[:-1], 4), 0.25, np.float32)
            views[asked["name"]] = View.of(facts, maps, shares, whole.grids)
        return replace(record, facts=replace(record.facts, queries=queries), views=views)
