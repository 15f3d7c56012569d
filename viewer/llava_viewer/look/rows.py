"""The tokens that a report lists, in reading order: record -> `Row`s of the answer and of the question."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llava_viewer.look import wording
from llava_viewer.look.pieces import content_words, is_function_word, prompt_texts, word_groups
from llava_viewer.look.selection import selection_text
from llava_viewer.look.text import token_label
from llava_viewer.look.units import Unit, unit_of
from llava_viewer.look.view_model import LEVELS, Candidate, Reads, Row, Took, WordRead
from llava_wire.choose import choose_parts, ordinary_rows, ordinary_tokens, split_view
from llava_wire.findings.patches import PatchCheck
from llava_wire.record import Record
from llava_wire.schema import Token
from llava_wire.view import TextView, View

MOST = 8
"""Words that a row read that are named: those of the largest values."""
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
    words, took, reads = _words([token.text for token in record.tokens]), _took(record), words_read(record)
    nats = wording.nats_of_need(record.facts.checks)
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
                word=words[number][0],
                group=words[number][1] and f"t{words[number][1]}",
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
                without_image=""
                if token.without_image is None
                else wording.percent(math.exp(min(0.0, token.without_image))),
                lost_level=round(LEVELS * _lost(token)),
                need=_need(token, nats),
                took=took.get(number),
                reads=() if query is None else reads[query],
            )
        )
    return tuple(rows)


def _took(record: Record) -> dict[int, Took]:
    """What is said of the tokens that were tested with some patches, by token."""
    patches = sum(grid.patches for grid in record.grids)
    check = PatchCheck.of_checks(record.facts.checks, len(record.tokens), patches)
    if check is None:
        return {}
    return {
        word.token: Took(wording.patches_title(word, check.view), wording.patches_figures(word), wording.UNUSED)
        for word in check.words
    }


def _lost(token: Token) -> float:
    """How much of a token's probability is lost without the image, 0 to 1; 0 where that was not tested."""
    return 0.0 if token.without_image is None else max(0.0, 1 - math.exp(min(0.0, token.without_image - token.logprob)))


def _need(token: Token, nats: float | None) -> str:
    """Whether a word needs the image, in words; "" where that was not tested, or of what is no word."""
    if nats is None or token.without_image is None or token.special:
        return ""
    return wording.NEEDS if token.logprob - token.without_image > nats else wording.BLIND


def need_told(record: Record) -> tuple[str, str, str] | None:
    """What was tested of the answer's content words (`wording.need_told`; of one that a piece of needs it); or None.

    Of tokens where the record has only the check's own count.
    """
    nats, found = wording.nats_of_need(record.facts.checks), wording.needing_image(record.facts.checks)
    if found is None:
        return None
    ordinary = [record.tokens[number] for number in ordinary_tokens(record.tokens)]
    tested = [token for token in ordinary if token.without_image is not None]
    words = content_words([token.text for token in tested])
    if not words:
        return wording.need_told(*found, "token")
    needing = sum(any(_need(tested[number], nats) == wording.NEEDS for number in word) for word in words)
    return wording.need_told(needing, len(words), "content word")


def question_rows(record: Record) -> tuple[Row, ...]:
    """The question's tokens whose attention was recorded, when there are any."""
    if not any(query.kind == "prompt" for query in record.queries):
        return ()
    pieces, texts, levels = record.facts.prompt.pieces, prompt_texts(record), _levels(record)
    words, reads = _words(texts), words_read(record)
    rows = []
    for index, query in enumerate(record.queries):
        if query.kind != "prompt":
            continue
        piece = pieces[query.token] if 0 <= query.token < len(pieces) else "?"
        shown, spaced, breaks = token_label(texts[query.token] if 0 <= query.token < len(texts) else "?")
        ids = record.facts.prompt.ids
        word, first = words[query.token] if 0 <= query.token < len(words) else ("", "")
        token_id = str(ids[query.token]) if 0 <= query.token < len(ids) else "?"
        where = f"question token at position {query.position}, step {query.step}"
        rows.append(
            Row(f"q{query.token}", index, shown, word, spaced, breaks, False, levels[index], 0, piece, token_id, where,
                "", (), reads=reads[index], group=first and f"q{first}")
        )  # fmt: skip
    return tuple(rows)


def first_row(record: Record, rows: Sequence[Row]) -> str:
    """The row a report opens on: of the words that need the image the one with the brightest patch in the first view
    that has rows; of all words where that was not tested, or none does. Articles, prepositions and the like come last.

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
    words = [row for row in words if not is_function_word(row.word or row.text)] or words
    needing = [row for row in words if row.need == wording.NEEDS]
    return max(needing or words, key=lambda row: peaks[row.query]).key


SEPARATOR = "(separator)"
"""What an image's token that is in no grid is called among words: its piece is often that of a patch."""


def words_read(record: Record) -> list[tuple[Reads, ...]]:
    """What each query read, one of each view of text."""
    shown = token_texts(record) if record.texts else []
    views = record.texts.values()
    return [tuple(_reads(record, view, row, shown) for view in views) for row in range(len(record.queries))]


def token_texts(record: Record) -> list[str]:
    """What every token of prompt and answer is called, by position; never empty."""
    prompt, texts = record.facts.prompt, prompt_texts(record)
    named = [text or piece for text, piece in zip(texts, prompt.pieces, strict=True)]
    for first, count in prompt.separators:
        named[first : first + count] = [SEPARATOR] * count
    named += [token.text or token.piece for token in record.tokens]
    return [token_label(text)[0] for text in named]


def row_splits(record: Record, view: View) -> list[tuple[int | None, str, list[float]]]:
    """Token, its text and parts of each row of a view, means over its layers and heads; None for the whole answer."""
    parts = choose_parts(view)
    if parts is None:
        return []
    rows: list[tuple[int | None, str]] = [(None, record.answer)]
    if "query" in view.axes:
        texts = prompt_texts(record)
        rows = [
            (one.token, texts[one.token] if one.kind == "prompt" else own_text(record.tokens[one.token]))
            for one in record.queries
        ]
    return [(token, text, numbers) for (token, text), numbers in zip(rows, parts.tolist(), strict=True)]


def _words(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The whole word of each piece and the number of its first one, or two times "" for a word of its own."""
    words = [("", "")] * len(texts)
    for group in word_groups(texts):
        whole = " ".join("".join(texts[number] for number in group).split())
        for number in group if len(group) > 1 and len(whole) <= _LONGEST_WORD else ():
            words[number] = whole, str(group[0])
    return words


def _levels(record: Record) -> list[tuple[int, ...]]:
    """The image share of each query, one level per view; the last entry is for a token without one.

    Views of other quantities have the levels of the first view of shares on their grid.
    """
    none = [0] * len(record.queries)
    views = [*record.views.values()]
    shares = [view for view in views if view.shares is not None and "query" in view.axes]
    columns = []
    for view in views:
        shown = view if view.shares is not None else next((one for one in shares if one.grids == view.grids), view)
        columns.append(_shares(shown) if "query" in shown.axes else none)
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


def _reads(record: Record, view: TextView, row: int, shown: list[str]) -> Reads:
    unit, prompt = Unit(view.facts.quantity), len(record.facts.prompt.ids)
    most = view.most(row, MOST)
    largest = max((abs(value) for _, value in most), default=0.0)
    words: list[tuple[int, WordRead]] = [
        (place, (shown[place], unit.text(value), round(LEVELS * abs(value) / largest))) for place, value in sorted(most)
    ]
    return Reads(
        title=f"“{view.name}”, mean of {selection_text(view.facts, record.facts.model)}",
        prompt=tuple(word for place, word in words if place < prompt),
        answer=tuple(word for place, word in words if place >= prompt),
        total=unit.text(float(view.values[row].sum(dtype="float64"))) if view.facts.quantity.additive else "",
    )
