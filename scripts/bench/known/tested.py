"""Answers about scenes of known truth, and what the checks say of their words.

Flow: questions -> records with the check `image`, those of descriptions with maps -> log probabilities with the objects
really painted over -> words that name an object and really need the image -> the check `patches` for any patches.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from bench.known.asked import as_png
from llava_eval.truth import as_truth, centres_inside, covered
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError
from llava_wire.findings.patches import PatchCheck, WordPatches
from llava_wire.schema import Image as AskedImage
from teach.pictures import painted_over
from teach.sightings import Item, Truth

NATS = 1.0
"""A word needs the image when its log probability really falls by more."""
DESCRIBE = "describe"
_BATCH = 8
_ONE_HEAD = {"layers": [0], "heads": [0]}
"""The cheapest view, where maps are not looked at."""


@dataclass(frozen=True)
class Word:
    """A word of a description that names an object and really needs the image.

    Args:
        answer: the place of its record.
        token: its step.
        scene: which scene.
        index: which object of it.
        box: [patch] float, how much of each patch the object's boxes cover; inside: [patch] bool, centres in one.
    """

    answer: int
    token: int
    scene: int
    index: int
    box: np.ndarray
    inside: np.ndarray


class Answers:
    """Answers with the check `image`, what their tokens really need, and words to test.

    Args:
        engine: the small model.
        items: questions about scenes, each with the number of its scene.
        maps: name -> options of the views that descriptions come with.
        truth: what the scenes' world knows of them.
    """

    def __init__(
        self,
        engine: Engine,
        items: Sequence[tuple[int, Item[Any]]],
        maps: Mapping[str, Mapping[str, Any]],
        truth: Truth,
    ) -> None:
        self.items, self._engine, self._truth = items, engine, truth
        self.records = self._answered([{"name": name, **view} for name, view in maps.items()])
        self.falls = self._falls()
        self.words = [*self._words()]

    def ask(self, sets: Mapping[int, tuple[int, ...]]) -> dict[int, WordPatches]:
        """The check `patches` of some words.

        Args:
            sets: place of a word in `words` -> its patches, ascending.
        """
        by_answer: dict[int, dict[int, int]] = {}
        for place in sets:
            by_answer.setdefault(self.words[place].answer, {})[self.words[place].token] = place
        found: dict[int, WordPatches] = {}
        asked = (self._with_patches(answer, own, sets) for answer, own in by_answer.items())
        for own, record in zip(by_answer.values(), self._run(asked), strict=True):
            check = PatchCheck.of_checks(record.facts.checks)
            if check is None:
                raise RuntimeError(f"check: got {record.facts.checks['patches']}, expected one that was measured")
            found |= {own[word.token]: word for word in check.words}
        return found

    def _with_patches(
        self, answer: int, own: Mapping[int, int], sets: Mapping[int, tuple[int, ...]]
    ) -> GenerateRequest:
        patches = {str(token): [*sets[place]] for token, place in own.items()}
        options = {"check": [{"name": "patches", "patches": patches, "sets": 1}], **_ONE_HEAD}
        record = replace(self.records[answer], picture=None)
        return GenerateRequest.replay(record, options, as_png(self.items[answer][1].scene.image))

    def _answered(self, views: Sequence[Mapping[str, Any]]) -> list[Record]:
        with_maps, without = {"views": views, "check": ["image"]}, {**_ONE_HEAD, "check": ["image"]}
        asked = (
            GenerateRequest.build(
                as_png(item.scene.image), item.question.text, with_maps if item.question.kind == DESCRIBE else without
            )
            for _, item in self.items
        )
        return [*self._run(asked)]

    def _falls(self) -> list[np.ndarray]:
        """Per answer [token]: how far log p really falls when the scene's objects are painted over."""
        asked = (_painted(record, item) for record, (_, item) in zip(self.records, self.items, strict=True))
        return [
            np.array([token.logprob - other.logprob for token, other in zip(record.tokens, again.tokens, strict=True)])
            for record, again in zip(self.records, self._run(asked), strict=True)
        ]

    def _words(self) -> Iterator[Word]:
        for answer, ((scene, item), record) in enumerate(zip(self.items, self.records, strict=True)):
            if item.question.kind != DESCRIBE:
                continue
            rects, boxes = record.geometry.patch_rects(), self._truth.boxes(item.scene)
            for naming in self._truth.namings([token.text for token in record.tokens], item.scene, ""):
                if self.falls[answer][naming.step] > NATS:
                    truth = as_truth([*boxes[naming.index]])
                    box, inside = covered(rects, truth).ravel(), centres_inside(rects, truth).ravel()
                    yield Word(answer, naming.step, scene, naming.index, box, inside)

    def _run(self, requests: Iterable[GenerateRequest]) -> Iterator[Record]:
        """Records in order; requests are made as they are needed, because their time runs from then on.

        Raises:
            RequestError: a request was refused.
        """
        coming = iter(requests)
        while batch := [*itertools.islice(coming, _BATCH)]:
            for result in self._engine.run(batch):
                if isinstance(result, RequestError):
                    raise result
                yield result


def _painted(record: Record, item: Item[Any]) -> GenerateRequest:
    """A replay of the answer about its scene with the objects painted over."""
    image = painted_over(item.scene)
    data = as_png(image)
    # A replay wants the image that was asked about: the record says that it was the painted one.
    facts = replace(record.facts, images=(_asked_about(image, data),))
    return GenerateRequest.replay(replace(record, facts=facts, picture=None), {"check": [], **_ONE_HEAD}, data)


def _asked_about(image: Image.Image, data: bytes) -> AskedImage:
    """An image as a record has it."""
    digests = [hashlib.sha256(one).hexdigest() for one in (data, image.convert("RGB").tobytes())]
    return AskedImage(image.width, image.height, *digests)
