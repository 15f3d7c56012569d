"""Measures which heads are found on the small model from few words, and how they point on other scenes.

Flow: descriptions of some scenes -> `llava_viewer.heads` with the engine in this process -> numbers per word and head
-> many draws of 20 words -> the heads that each draw gives -> how often their strongest patch lies in the named
object's box on other scenes; the same with boxes, with localization on the words' rows and on the question's; roles
from draws of 20 descriptions -> docs/benchmarks/heads.json.
Example: python -m bench.heads --draws 400
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_eval.criterion import Criterion, WordMaps, criterion
from llava_eval.metrics.pointing_game import peak_share
from llava_eval.ranking import Head, Measured, rank
from llava_eval.roles import cover
from llava_eval.statistics import resampled_means
from llava_eval.truth import centres_inside
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.heads.questions import read_questions
from llava_viewer.heads.search import Search, Wanted
from llava_wire import Record
from servekit.paths import MODEL_STORE
from shapes.scenes import COLOURS, SHAPES
from shapes.sightings import Item, held_out

MODEL = "llava-shapes"
FIND_SEED, OTHER_SEED = 71_002, 71_001
KINDS = {"colour": frozenset(COLOURS), "shape": frozenset(SHAPES)}
OWN: Mapping[str, Head] = {"colour": (2, 7), "shape": (1, 4)}
"""The heads that the model's YAML names, chosen by pointing when the model was trained."""
GOALS = {"colour": 0.80, "shape": 0.90}
"""What heads found from 20 words without boxes must point at least."""
WORDS = 20
TELLING = ("where", "exists-yes")
"""Questions that name one object, whose last token is the row of the question."""


class InProcess:
    """An engine, asked as a client asks a server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def predict(self, image: Path, prompt: str, options: Mapping[str, Any]) -> Record:
        """See `llava_viewer.heads.asking.Asks`."""
        return self._one(GenerateRequest.build(image.read_bytes(), prompt, dict(options)))

    def replay(self, record: Record, options: Mapping[str, Any], *, image: Path | None) -> Record:
        """See `llava_viewer.heads.asking.Asks`."""
        return self._one(GenerateRequest.replay(record, dict(options), image.read_bytes() if image else None))

    def _one(self, request: GenerateRequest) -> Record:
        [found] = self._engine.run([request])
        if not isinstance(found, Record):
            raise found
        return found


class KeptMaps:
    """Keeps a word's maps as they are, and which patches lie in its box: means of maps can be judged afterwards."""

    def measure(self, word: WordMaps) -> np.ndarray | None:
        """[2 x patch, layer, head]: the maps, then 1 for patches with their centre in the box."""
        if word.truth is None:
            return None
        inside = centres_inside(word.rects, word.truth).astype(np.float32)
        maps = np.moveaxis(word.maps, -1, 0)
        return np.concatenate([maps, np.broadcast_to(inside[:, None, None], maps.shape)])

    def scores(self, measured: np.ndarray) -> np.ndarray:
        """See `llava_eval.criterion.Criterion`: the sums over the image, which nobody asks for."""
        total: np.ndarray = measured[:, : measured.shape[1] // 2].sum(1)
        return total


@dataclass(frozen=True)
class Others:
    """Words of other scenes.

    Args:
        maps: [word, cell, patch].
        inside: [word, patch] bool.
        scenes: [word].
    """

    maps: np.ndarray
    inside: np.ndarray
    scenes: tuple[str, ...]

    @classmethod
    def of(cls, kept: Measured) -> Others:
        """From what `KeptMaps` kept."""
        patches = kept.numbers.shape[1] // 2
        flat = kept.numbers.reshape(*kept.numbers.shape[:2], -1)
        return cls(flat[:, :patches].swapaxes(1, 2), flat[:, patches:, 0] > 0, kept.images)

    def pointing(self, cells: Sequence[int]) -> np.ndarray:
        """[word]: whether the mean map of some heads peaks in the box."""
        means = self.maps[:, list(cells)].mean(1)
        return np.array([peak_share(one, inside) for one, inside in zip(means, self.inside, strict=True)])


def lines_of(items: Sequence[Item], folder: Path) -> Path:
    """JSON lines of questions with the boxes of all objects, and their images, in a folder."""
    names: dict[int, str] = {}
    lines = []
    for item in items:
        name = names.setdefault(id(item.scene), f"{len(names)}.png")
        if not (folder / name).exists():
            item.scene.image.save(folder / name, compress_level=1)
        boxes = {thing.name: list(thing.box) for thing in item.scene.objects}
        lines.append(json.dumps({"image": name, "prompt": item.question.text, "boxes": boxes}))
    path = folder / "scenes.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def searched(engine: Engine, items: Sequence[Item], wanted: Wanted) -> Search:
    """A finished search over questions."""
    search = Search(InProcess(engine), wanted, lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        questions, _ = read_questions([lines_of(items, Path(folder))])
        search.run(questions)
    return search


def drawn(measured: Measured, how: Criterion, others: Others, draws: int, words: int = WORDS) -> dict[str, list[Any]]:
    """What many draws of a few words give: the first head, the set, and how each points on other scenes, [word]."""
    rng = np.random.default_rng(0)
    heads = measured.numbers.shape[-1]
    found: dict[str, list[Any]] = {"first": [], "set": [], "first points": [], "set points": []}
    for _ in range(draws):
        pick = rng.choice(len(measured.images), words, replace=False)
        ranking = rank(np.asarray(how.scores(measured.numbers[pick]), float), [measured.images[i] for i in pick])
        cells = [layer * heads + head for layer, head in ranking.chosen]
        found["first"].append(cells[0])
        found["set"].append(tuple(cells))
    known = {cells: others.pointing(cells) for cells in {*found["set"], *((cell,) for cell in found["first"])}}
    found["first points"] = [known[cell,] for cell in found["first"]]
    found["set points"] = [known[cells] for cells in found["set"]]
    return found


def pointing_figure(
    name: str, points: Sequence[np.ndarray], others: Others, *, at_least: float | None = None
) -> Figure:
    """The mean over draws and words, with an interval over the other scenes and the draws' spread in the note."""
    each = np.stack(points).mean(0)  # [word]
    means = resampled_means(each[:, None], others.scenes)
    assert means is not None
    low, high = np.percentile(means, [2.5, 97.5])
    worst = np.percentile([one.mean() for one in points], 5)
    return Figure(name, float(each.mean()), "", float(low), float(high), at_least=at_least,
                  note=f"95 of 100 draws: {worst:.3f} or more")  # fmt: skip


def head_name(cell: int, heads: int) -> str:
    """L2H7."""
    return f"L{cell // heads}H{cell % heads}"


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's."""
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (one, other)]).astype(float)
    return float(np.corrcoef(ranks)[0, 1])


def figures(engine: Engine, scenes: int, other_scenes: int, draws: int) -> tuple[list[Figure], dict[str, Any]]:
    """All rows of the table, and how often each head was the first of a draw."""
    own_items, other_items = held_out(FIND_SEED, scenes), held_out(OTHER_SEED, other_scenes)
    described = [item for item in own_items if item.question.kind == "describe"]
    told = [item for item in own_items if item.question.kind in TELLING]
    named = ("agreement", "pointing", "localization")
    search = searched(engine, described, Wanted({name: criterion(name) for name in named}, kinds=KINDS))
    asked = searched(engine, told, Wanted({"localization": criterion("localization")}, rows="question"))
    kept = searched(
        engine,
        [item for item in other_items if item.question.kind == "describe"],
        Wanted({"pointing": KeptMaps()}, kinds=KINDS, every=True),
    )
    rows: list[Figure] = []
    raw: dict[str, Any] = {}
    for kind, goal in GOALS.items():
        others = Others.of(_there(kept.evidence.measured(kind, "pointing")))
        rows += _of_kind(kind, goal, search, asked, others, draws, raw)
    words = searched(engine, described, Wanted({"agreement": criterion("agreement")}))
    rows += _roles(_there(words.evidence.measured("word", "agreement")), draws, raw)
    return rows, raw


def _of_kind(
    kind: str, goal: float, search: Search, asked: Search, others: Others, draws: int, raw: dict[str, Any]
) -> list[Figure]:
    heads = _there(search.evidence.measured(kind, "agreement")).numbers.shape[-1]
    truth = np.array([others.pointing([cell]).mean() for cell in range(others.maps.shape[1])])
    best, own = int(truth.argmax()), OWN[kind][0] * heads + OWN[kind][1]
    rows = [Figure(f"{kind} words: the best of all heads, {head_name(best, heads)}", float(truth[best]), "",
                   note=f"n = {len(others.inside)} words of other scenes")]  # fmt: skip
    ways = [
        ("agreement, no boxes", "agreement", search.evidence.measured(kind, "agreement")),
        ("pointing, with boxes", "pointing", search.evidence.measured(kind, "pointing")),
        ("localization, rows of the words", "localization", search.evidence.measured(kind, "localization")),
        ("localization, row of the question", "localization", asked.evidence.measured("question", "localization")),
    ]
    for way, name, measured in ways:
        measured = _there(measured)
        how = criterion(name)
        found = drawn(measured, how, others, draws)
        labels = [head_name(cell, heads) for cell in found["first"]]
        raw[f"{kind}, {way}: first heads of {draws} draws"] = {one: labels.count(one) for one in sorted(set(labels))}
        goal_here = goal if name == "agreement" else None
        title = f"{kind} words, {WORDS} words, {way}"
        rows.append(pointing_figure(f"{title}: the first head", found["first points"], others, at_least=goal_here))
        rows.append(pointing_figure(f"{title}: the set", found["set points"], others, at_least=goal_here))
        whole = np.asarray(how.scores(measured.numbers)).mean(0).ravel()
        place = int((whole > whole[own]).sum()) + 1
        rows.append(
            Figure(
                f"{kind} words, all {len(measured.images)} words, {way}: rank correlation with pointing",
                correlation(whole, truth),
                "",
                note=f"{head_name(own, heads)} is number {place}",
            )
        )
    return rows


def _roles(measured: Measured, draws: int, raw: dict[str, Any], images: int = 20) -> list[Figure]:
    """How often the two heads of the model's YAML, and no others, come out of a few descriptions."""
    rng, heads = np.random.default_rng(0), measured.numbers.shape[-1]
    flat = measured.numbers[:, 0].reshape(len(measured.images), -1).astype(float)
    names, groups = np.unique(measured.images, return_inverse=True)
    rows, expected = [], sorted(layer * heads + head for layer, head in OWN.values())
    for count in (images, len(names)):
        found = []
        for _ in range(draws if count < len(names) else 1):
            chosen = np.isin(groups, rng.choice(len(names), count, replace=False))
            found.append(sorted(cover(flat[chosen])))
        labels = [" and ".join(head_name(cell, heads) for cell in cells) for cells in found]
        raw[f"roles of {count} descriptions"] = {one: labels.count(one) for one in sorted(set(labels))}
        share = sum(cells == expected for cells in found) / len(found)
        note = f"{len(found)} draws" if len(found) > 1 else ""
        rows.append(Figure(f"roles, {count} descriptions, no boxes, no list of words: L2H7 and L1H4 alone", share,
                           "of draws", note=note))  # fmt: skip
    return rows


def _there(measured: Measured | None) -> Measured:
    if measured is None:
        raise RuntimeError("words: got none, expected some; take more scenes")
    return measured


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400, help="draws of words (%(default)s)")
    parser.add_argument("--scenes", type=int, default=150, help="whose words are drawn (%(default)s)")
    parser.add_argument("--other-scenes", type=int, default=240, help="on which heads are judged (%(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "heads.json", help="results file (%(default)s)")
    given = parser.parse_args(arguments)
    engine = Engine.load(MODEL_STORE / MODEL, device="cpu", dtype="float32")
    torch.set_num_threads(1)  # loading follows the model's own settings
    rows, raw = figures(engine, given.scenes, given.other_scenes, given.draws)
    for row in rows:
        bounds = "" if row.low is None else f" [{row.low:.3f}, {row.high:.3f}]"
        print(f"{row.name:<88} {row.value:6.3f}{bounds} {row.note}")
    what = (
        f"{MODEL}: heads found from draws of {WORDS} words of descriptions that need the image, and how often their "
        "strongest patch lies in the named object's box on other scenes (the set: the mean of its heads' maps); "
        "intervals over those scenes."
    )
    settings = {"draws": given.draws, "scenes": given.scenes, "other_scenes": given.other_scenes, "words": WORDS}
    write(given.out, Result("Heads that are found", what, machine(), settings, rows, raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
