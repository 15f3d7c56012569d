"""Judges the views of one answer against the boxes of its scene, by the metrics of `llava_eval`.

Flow: scene, question, record -> words whose object is known -> a score of each view, misread ones too -> `Tally`, sums
per scene, which is all that intervals over scenes need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.known.views import UNIFORM
from llava_eval.metric import evaluate
from llava_wire import Record
from shapes.pointing import Judged, judged_words
from shapes.sightings import Item

METRICS = {"energy": "energy_in_box", "iou": "box_iou", "box": "box_accuracy"}
"""Name in the results -> metric, beside pointing; of all words but those that stand in the question."""
AGAIN = "again"
NEIGHBOUR, TURNED = "neighbour", "turned"
Sums = dict[str, list[float]]


@dataclass
class Tally:
    """Sums per scene.

    Args:
        scenes: how many there are.
        words: group -> [scene], how many words; `NEIGHBOUR`: those that have a row beside them.
        views: view -> "group" of pointing, a metric, `NEIGHBOUR` or `TURNED` -> [scene].
        seen: view -> on how many scenes, the first ones, it was judged.
    """

    scenes: int
    words: Sums = field(default_factory=dict)
    views: dict[str, Sums] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def count(self, scene: int, item: Item, record: Record) -> list[Judged]:
        """Counts the words of an answer that can be judged, and gives them."""
        found = words_of(item, record)
        for word in found:
            self._add(self.words, word.group, scene, 1)
            if word.group != AGAIN and word.beside is not None:
                self._add(self.words, NEIGHBOUR, scene, 1)
        return found

    def judge(self, scene: int, item: Item, record: Record, words: Iterable[Judged], names: Iterable[str]) -> None:
        """Adds the scores of some of a record's views, or of an even map; the record may hold some rows alone."""
        grid = record.geometry.patch_rects()
        rows = {query.token: row for row, query in enumerate(record.queries)}
        even = np.ones((len(rows), *grid.shape[:2]), np.float32)  # [row, row of patches, col]
        for name in names:
            values = even if name == UNIFORM else record.views[name].maps_float()
            for word in words:
                truth = [item.scene.objects[word.index].box]
                sums, own = self.views.setdefault(name, {}), values[rows[word.step]]
                self.seen[name] = scene + 1
                self._add(sums, word.group, scene, score("pointing_game", own, grid, truth))
                if word.group == AGAIN:
                    continue
                for short, metric in METRICS.items():
                    self._add(sums, short, scene, score(metric, own, grid, truth))
                self._add(sums, TURNED, scene, score("pointing_game", own.T, grid, truth))
                if word.beside is not None:
                    self._add(sums, NEIGHBOUR, scene, score("pointing_game", values[rows[word.beside]], grid, truth))

    def raw(self) -> dict[str, Any]:
        """Everything as JSON has it, a series per view, cut to the scenes that it was judged on."""
        trimmed = {
            name: {key: [round(value, 4) for value in series[: self.seen[name]]] for key, series in sums.items()}
            for name, sums in self.views.items()
        }
        return {"words": {key: [int(value) for value in series] for key, series in self.words.items()}, **trimmed}

    def _add(self, sums: Sums, key: str, scene: int, value: float) -> None:
        sums.setdefault(key, [0.0] * self.scenes)[scene] += value


def rows_of(words: Iterable[Judged]) -> list[int]:
    """The steps of an answer whose rows judge these words."""
    return sorted({step for word in words for step in (word.step, word.beside) if step is not None})


def words_of(item: Item, record: Record) -> list[Judged]:
    """The words of an answer whose object is known."""
    question, right = item.question, record.answer == item.question.answer
    texts = [token.text for token in record.tokens]
    return judged_words(texts, item.scene.objects, question.kind, question.text, right)


def score(metric: str, values: np.ndarray, grid: np.ndarray, truth: list[Any]) -> float:
    """A metric's value for one map."""
    return evaluate(metric, values, grid, truth).value
