"""The tokens that a report lists, in reading order: record -> `Row`s of the answer and of the question."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llava_viewer.look import wording
from llava_viewer.look.pieces import prompt_texts
from llava_viewer.look.text import token_label
from llava_viewer.look.units import unit_of
from llava_viewer.look.view_model import LEVELS, Candidate, Row
from llava_wire.choose import ordinary_rows, split_view
from llava_wire.record import Record
from llava_wire.schema import Token
from llava_wire.view import View

_LONGEST_WORD = 60


def row_keys(record: Record) -> list[str]:
    """The id of each query's radio button: "t7" for answer token 7, "q40" for the prompt's id 40."""
    return [f"{'t' if query.kind == 'answer' else 'q'}{query.token}" for query in record.queries]


def own_text(token: Token) -> str:
    """What a token of the answer stands for: its text, a special token's name; "" inside a character of several."""
    return token.text or (token.piece if token.special else "")


def answer_rows(record: Record) -> tuple[Row, ...]:
    """Every answer token; those whose attention was not recorded have no key."""
    queries = {q.token: index for index, q in enumerate(record.queries) if q.kind == "answer"}
    levels = _levels(record)
    words = _words([token.text for token in record.tokens])
    rows = []
    for number, token in enumerate(record.tokens):
        query = queries.get(number)
        shown, spaced, breaks = token_label(own_text(token))
        probability = math.exp(min(0.0, token.logprob))
        step = f", step {record.queries[query].step}" if query is not None else ", not recorded"
        rows.append(
            Row(
                key="" if query is None else f"t{number}",
                query=-1 if query is None else query,
                text=shown,
                word=words[number],
                spaced=spaced,
                breaks=breaks,
                special=token.special,
                levels=levels[-1 if query is None else query],
                probability_level=round(LEVELS * probability),
                piece=token.piece,
                token_id=str(token.id),
                where=f"token {number}{step}, counted from 0",
                probability=wording.percent(probability),
                top=tuple(_candidate(c.id, c.text, c.logprob, token.id) for c in token.top),
            )
        )
    return tuple(rows)


def question_rows(record: Record) -> tuple[Row, ...]:
    """The question's tokens whose attention was recorded, when there are any."""
    if not any(query.kind == "prompt" for query in record.queries):
        return ()
    pieces, texts, levels = record.facts.prompt.pieces, prompt_texts(record), _levels(record)
    words = _words(texts)
    rows = []
    for index, query in enumerate(record.queries):
        if query.kind != "prompt":
            continue
        piece = pieces[query.token] if 0 <= query.token < len(pieces) else "?"
        shown, spaced, breaks = token_label(texts[query.token] if 0 <= query.token < len(texts) else "?")
        ids = record.facts.prompt.ids
        token_id = str(ids[query.token]) if 0 <= query.token < len(ids) else "?"
        where = f"question token at position {query.position}, step {query.step}"
        rows.append(
            Row(f"q{query.token}", index, shown, words[query.token], spaced, breaks, False,
                levels[index], 0, piece, token_id, where, "", ())
        )  # fmt: skip
    return tuple(rows)


def first_row(record: Record, rows: Sequence[Row]) -> str:
    """The row a report opens on: the answer's word with the brightest patch in the first view that has rows.

    The largest image share would do worse: function words often spread much attention evenly over the image.
    """
    view = next((view for view in record.views.values() if "query" in view.axes), None)
    peaks = np.zeros(len(record.queries), np.float32)
    if view is not None:
        maps, _ = split_view(view)  # [query, map, row, col]
        peaks = unit_of(view).peaks(maps.mean(1))
    taken = set(ordinary_rows(record.queries, record.tokens))
    ordinary = [row for row in rows if row.key and row.query in taken]
    words = [row for row in ordinary if any(c.isalnum() for c in row.text)] or ordinary or [r for r in rows if r.key]
    if not words:
        return ""
    return max(words, key=lambda row: peaks[row.query]).key


def _words(texts: Sequence[str]) -> list[str]:
    """The whole word of each piece, or "" when the piece is a word of its own: a piece without a space before it goes
    on with the one before when both sides are letters or digits."""
    joined: list[list[int]] = []
    for number, text in enumerate(texts):
        before = texts[number - 1] if number else ""
        if joined and before[-1:].isalnum() and text[:1].isalnum():
            joined[-1].append(number)
        else:
            joined.append([number])
    words = [""] * len(texts)
    for group in joined:
        whole = " ".join("".join(texts[number] for number in group).split())
        for number in group if len(group) > 1 and len(whole) <= _LONGEST_WORD else ():
            words[number] = whole
    return words


def _levels(record: Record) -> list[tuple[int, ...]]:
    """The image share of each query, one level per view; the last entry is for a token without one."""
    none = [0] * len(record.queries)
    columns = [_shares(view) if "query" in view.axes else none for view in record.views.values()]
    return [*zip(*columns, strict=True), (0,) * len(record.views)]


def _shares(view: View) -> list[int]:
    """The image share of each row as a level, the mean over the view's maps; none of what is no share."""
    if view.shares is None:
        return [0] * view.lead[0]
    shares = view.shares.reshape(view.lead[0], -1, view.shares.shape[-1])[..., 1].mean(axis=1)
    return [round(LEVELS * min(1.0, float(share))) for share in shares]


def _candidate(candidate_id: int, text: str, logprob: float, chosen_id: int) -> Candidate:
    probability = math.exp(min(0.0, logprob))
    shown, _, _ = token_label(text)
    return Candidate(shown, wording.percent(probability), round(LEVELS * probability), candidate_id == chosen_id)
