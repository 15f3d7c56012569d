"""Heads found: questions asked one after another, words judged as they come, heads in order when all are there.

Flow: `Question`s -> answers and rows (`asking`) -> words (`words`) -> `llava_eval.ranking.Evidence`, which keeps a few
numbers per head -> rankings by kind of word and criterion, and roles -> `Findings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from llava_eval.criterion import CRITERIA, Criterion, WordMaps
from llava_eval.ranking import Evidence, Head, rank
from llava_eval.roles import cover, found_again
from llava_eval.truth import as_truth
from llava_viewer.heads.asking import Asks, Rows, answered, concerns_one_question, rows_of
from llava_viewer.heads.findings import Findings, Table, commonest, counted
from llava_viewer.heads.questions import Question
from llava_viewer.heads.words import KINDS, WORD, Spot, Spots, answer_spots, question_spots
from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.schema import Model

AGREEMENT = "agreement"
QUESTION_ROWS = (
    "rows of the question: on llava-shapes, the one model that was measured, localization puts heads in an order "
    "unrelated to where they point (rank correlation -0.1 and 0.0), and neither of its two pointing heads comes first; "
    "the rows of the answer's own words find both"
)
_FEW_IMAGES = 10
_EXAMPLES = 3


@dataclass(frozen=True)
class Wanted:
    """What is asked of a search.

    Args:
        criteria: by name.
        rows: whose rows: those of the answer's own words, or the question's last one.
        kinds: name -> words in lower case; none for the kinds that words have by themselves.
        every: whether words count that do not need the image.
        top: how many heads a set has; None for the rule of `llava_eval.ranking`.
        options: of the answers, such as max_new_tokens.
    """

    criteria: Mapping[str, Criterion]
    rows: Literal["answer", "question"] = "answer"
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    every: bool = False
    top: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class NothingFoundError(ValueError):
    """No word that heads could be judged by."""


class Search:
    """A search in progress.

    Args:
        asks: whom the questions are asked.
        wanted: what is asked of the search.
        say: gets a sentence of progress, or of something that a reader should know at once.

    `evidence` holds what was measured of the words so far.
    """

    def __init__(self, asks: Asks, wanted: Wanted, say: Callable[[str], None] = lambda line: None) -> None:
        self._asks, self._wanted, self._say = asks, wanted, say
        self.evidence = Evidence(wanted.criteria)
        self._logit = any(CRITERIA.find(name).traits.get("needs_contributions") for name in wanted.criteria)
        self._model: Model | None = None
        self._images: set[str] = set()
        self._counts = Counter[str]()
        self._examples: dict[str, list[str]] = {}

    def run(self, questions: Sequence[Question], notes: Iterable[str] = ()) -> Findings:
        """All questions, and what they say of heads.

        Args:
            questions: checked ones.
            notes: what is known of them already.

        Raises:
            NothingFoundError: no word can be judged by.
            RequestError: the server refuses what concerns all questions, or does not answer.
            RecordError, OSError: as `Client.predict`.
        """
        for number, question in enumerate(questions, 1):
            try:
                self._look(question)
            except RequestError as error:
                if not concerns_one_question(error):
                    raise
                self._note("skipped", f"{question.where}: {error}")
                self._say(f"warning: {question.where} was skipped: {error}")
            if number * 10 // len(questions) > (number - 1) * 10 // len(questions):
                self._say(f"question {number} of {len(questions)}; {counted(self._counts['judged'], 'word')}")
        return self._found(len(questions), [*notes])

    def _look(self, question: Question) -> None:
        wanted, kind = self._wanted, "answer" if self._wanted.rows == "answer" else "prompt"
        check = kind == "answer" and not wanted.every
        record = answered(question, self._asks, wanted.options, kind, check=check)  # type: ignore[arg-type]
        self._same_model(question, record)
        if kind == "answer":
            found = answer_spots(record, question.boxes, wanted.kinds, every=wanted.every)
        else:
            found = question_spots(record, question.boxes)
        self._count(question, record, found)
        rows = sorted({row for spot in found.spots for row in spot.rows})
        if rows:
            maps = rows_of(question, record, rows, kind, self._asks, logit=self._logit)  # type: ignore[arg-type]
            for spot in found.spots:
                self._judge(question, record, spot, maps)

    def _same_model(self, question: Question, record: Record) -> None:
        model = record.facts.model
        if self._model is None:
            self._model = model
        told = [(one.name, one.revision, one.layers, one.heads) for one in (model, self._model)]
        if told[0] != told[1]:
            raise NothingFoundError(
                f"{question.where}: got model {told[0][0]} @ {told[0][1]}, expected {told[1][0]} @ {told[1][1]} as in "
                "the questions before it; heads are a model's own"
            )

    def _count(self, question: Question, record: Record, found: Spots) -> None:
        self._images.add(question.digest)
        self._counts["words"] += found.words
        self._counts["needing"] += found.needing or 0
        self._counts["untested"] += found.needing is None
        where = "answer" if self._wanted.rows == "answer" else "question"
        for phrase in found.missing:
            told = record.answer if where == "answer" else record.facts.prompt.text
            self._note("missing", f"{question.where}: {phrase!r} in {told!r:.80}")

    def _judge(self, question: Question, record: Record, spot: Spot, rows: Rows) -> None:
        grids = tuple((grid.rows, grid.cols) for grid in record.grids)
        word = WordMaps(
            _mean([rows.maps[row] for row in spot.rows]),
            grids,
            record.patch_rects(),
            as_truth(spot.boxes) if spot.boxes else None,
            _mean([rows.contributions[row] for row in spot.rows]) if rows.contributions else None,
        )
        judged = self.evidence.add(spot.text, question.digest, spot.kinds, word)
        self._counts["judged"] += bool(judged)
        if spot.boxes and any(
            CRITERIA.find(name).traits.get("needs_boxes") for name in set(self._wanted.criteria) - judged
        ):
            self._note("unseen", f"{question.where}: {spot.text!r}")

    def _note(self, what: str, example: str) -> None:
        self._counts[what] += 1
        self._examples.setdefault(what, []).append(example)

    def _found(self, questions: int, notes: list[str]) -> Findings:
        tables = [
            Table(kind, name, ranking, self._texts(kind, name))
            for kind in self._wanted.kinds or KINDS
            for name in self._wanted.criteria
            if (ranking := self.evidence.ranking(kind, name, self._wanted.top)) is not None
        ]
        if self._model is None or not tables:
            raise NothingFoundError(self._nothing(questions))
        counts = self._counts
        tested = self._wanted.rows == "answer" and not self._wanted.every and not counts["untested"]
        return Findings(
            tuple(tables),
            self._roles(),
            self._model,
            questions - counts["skipped"],
            len(self._images),
            counts["words"],
            counts["needing"] if tested else None,
            self._wanted.rows,
            tuple(notes + self._notes(tables)),
        )

    def _texts(self, kind: str, name: str) -> tuple[str, ...]:
        measured = self.evidence.measured(kind, name)
        return () if measured is None else commonest(measured.texts)

    def _roles(self) -> tuple[Table, ...]:
        """The heads that serve all words between them; for words of no named kind alone, which may be of several."""
        measured = self.evidence.measured(WORD, AGREEMENT)
        if measured is None:
            return ()
        images, texts = measured.images, measured.texts
        scores = self.evidence.scores(measured, AGREEMENT)
        flat = scores.reshape(len(scores), -1)
        cells = cover(flat)
        again = found_again(flat, images, cells)
        best = flat[:, cells].argmax(1)
        order = sorted(range(len(cells)), key=lambda place: -int((best == place).sum()))
        found = []
        for number, place in enumerate(order, 1):
            own = np.flatnonzero(best == place)
            ranking = rank(scores[own], [images[i] for i in own], 1)
            head: Head = divmod(cells[place], scores.shape[2])
            ranking = replace(ranking, chosen=(head,), alike=1)
            share = None if again is None else again[place]
            found.append(Table(f"role-{number}", AGREEMENT, ranking, commonest([texts[i] for i in own]), share))
        return tuple(found)

    def _notes(self, tables: Sequence[Table]) -> list[str]:
        counts = self._counts
        told = {
            "skipped": ("question", "skipped"),
            "missing": ("phrase", f"left out, not in the {self._wanted.rows}"),
            "unseen": ("word", "left out, no patch has its centre in the box"),
        }
        notes = [QUESTION_ROWS] if self._wanted.rows == "question" else []
        notes += [
            f"{counted(counts[what], noun)} {text} ({self._some(what)})"
            for what, (noun, text) in told.items()
            if counts[what]
        ]
        if counts["untested"] and self._wanted.rows == "answer" and not self._wanted.every:
            told_of = counted(counts["untested"], "answer")
            notes.append(f"{told_of} not tested without the image: every word counts there")
        missing = [kind for kind in self._wanted.kinds if kind not in {table.kind for table in tables}]
        notes += [f"kind {kind}: none of its words was found" for kind in missing]
        if len(self._images) < _FEW_IMAGES:
            notes.append(
                f"{counted(len(self._images), 'image')}: other ones may give other heads, and intervals of so few are "
                f"too narrow; take {_FEW_IMAGES} at least"
            )
        return notes

    def _some(self, what: str) -> str:
        shown = self._examples[what][:_EXAMPLES]
        return "; ".join(shown) + ("; ..." if len(self._examples[what]) > len(shown) else "")

    def _nothing(self, questions: int) -> str:
        counts = self._counts
        said = [f"got {counted(questions, 'question')}, {counted(counts['words'], 'word')} of the answers"]
        if self._wanted.rows == "answer" and not self._wanted.every:
            said.append(f"{counts['needing']} of them need the image")
        if self._wanted.kinds:
            said.append(f"none of them of {', '.join(self._wanted.kinds)}")
        for what, text in (("missing", "of the phrases missing"), ("skipped", "of the questions skipped")):
            said += [f"{counts[what]} {text} ({self._some(what)})"] if counts[what] else []
        return f"words: {', '.join(said)}, expected a word to judge heads by; ask what makes the model name things"


def _mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.stack(maps).mean(0, dtype=np.float32))
