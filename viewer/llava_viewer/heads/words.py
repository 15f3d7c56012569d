"""Which words of an answer heads are judged by: phrases that have boxes, words of kinds that somebody named, or all.

Flow: record + boxes by phrase + kinds -> spans of the answer's tokens -> `Spot`s, each with its kinds and its boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from llava_viewer.heads.questions import Box
from llava_viewer.look.pieces import word_groups
from llava_wire.choose import ordinary_tokens
from llava_wire.record import Record
from llava_wire.schema import IMAGE_CHECK

WORD, PHRASE, FIRST, LAST, QUESTION = "word", "phrase", "first", "last", "question"
"""Kinds that words have by themselves: any word; the whole of a phrase with boxes, its first word and its last one; the
question's last token."""
KINDS = (PHRASE, FIRST, LAST, WORD, QUESTION)
_LETTER = r"[^\W\u2e80-\ufaff\U00020000-\U0003ffff]"
"""A letter or digit of a script that parts words by spaces."""


@dataclass(frozen=True)
class Spot:
    """A word or phrase and the rows that are its own.

    Args:
        text: as the answer has it.
        kinds: what sort of word it is.
        rows: its answer tokens; of the question, its position in the prompt.
        boxes: where the thing lies that it names; none where nobody said.
    """

    text: str
    kinds: tuple[str, ...]
    rows: tuple[int, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Spots:
    """What an answer offers.

    Args:
        spots: what heads are judged by.
        words: how many words the answer has.
        needing: how many of them need the image; None where that was not tested.
        missing: phrases that do not stand in the answer.
    """

    spots: tuple[Spot, ...]
    words: int
    needing: int | None
    missing: tuple[str, ...]


def answer_spots(
    record: Record, boxes: Mapping[str, tuple[Box, ...]], kinds: Mapping[str, frozenset[str]], *, every: bool
) -> Spots:
    """The words of an answer.

    Args:
        record: the run, its answer checked without the image unless `every` word counts.
        boxes: by phrase.
        kinds: name -> words in lower case; where there are some, only these words count, and what a phrase is does not.
        every: also words that do not need the image; they count as well where that was not tested.
    """
    texts = [token.text for token in record.tokens]
    ordinary = set(ordinary_tokens(record.tokens))
    words = [group for group in word_groups(texts) if set(group) <= ordinary and _has_letter(texts, group)]
    phrases = own_places(texts, boxes)
    needing = [group for group in words if _needs_image(record, group) is not False]
    tested = any(_needs_image(record, group) is not None for group in words)
    counted = words if every else needing
    spots = [
        Spot(_text(texts, group), kind_names, tuple(group), _boxes_of(group, phrases, boxes) if kinds else ())
        for group in counted
        if (kind_names := _kinds_of(_text(texts, group), kinds))
    ]
    if not kinds:
        for phrase, tokens in phrases.items():
            whole = [group for group in words if set(group) & set(tokens)]
            spots += _phrase_spots(texts, whole, [group for group in whole if group in counted], boxes[phrase])
    missing = tuple(phrase for phrase in boxes if phrase not in phrases)
    return Spots(tuple(spots), len(words), len(needing) if tested else None, missing)


def question_spots(record: Record, boxes: Mapping[str, tuple[Box, ...]]) -> Spots:
    """The question's last token, with the boxes of the phrase that the question names where it names one alone."""
    positions = [query.token for query in record.queries if query.kind == "prompt"]
    named = [phrase for phrase in boxes if phrase_tokens([record.facts.prompt.text], phrase)]
    found = boxes[named[0]] if len(named) == 1 else ()
    spots = (
        (Spot(record.facts.prompt.pieces[positions[-1]], (QUESTION,), (positions[-1],), found),) if positions else ()
    )
    return Spots(spots, len(spots), None, tuple(phrase for phrase in boxes if phrase not in named))


def phrase_tokens(texts: Sequence[str], phrase: str) -> tuple[int, ...]:
    """The tokens of a phrase where it stands first (`phrase_places`); none where it does not."""
    return next(iter(phrase_places(texts, phrase)), ())


def own_places(texts: Sequence[str], phrases: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The tokens of each phrase where it first stands by itself: "bear" is not the bear of a "teddy bear" that is a
    phrase too. Those that stand nowhere are left out.

    Args:
        texts: what each token adds.
        phrases: those that are told apart.
    """
    places = {phrase: phrase_places(texts, phrase) for phrase in phrases}
    found: dict[str, tuple[int, ...]] = {}
    for phrase, own in places.items():
        longer = [set(place) for other, all in places.items() if len(other) > len(phrase) for place in all]
        by_itself = (place for place in own if not any(set(place) < other for other in longer))
        if (first := next(by_itself, None)) is not None:
            found[phrase] = first
    return found


def phrase_places(texts: Sequence[str], phrase: str) -> list[tuple[int, ...]]:
    """The tokens of a phrase at every place where it stands, whole words alone, upper and lower case alike.

    Args:
        texts: what each token adds.
        phrase: its words may be apart by any white space.
    """
    stripped = phrase.strip()
    before, after = rf"(?<!{_LETTER})" if re.match(_LETTER, stripped) else "", ""
    if re.match(_LETTER, stripped[-1:]):
        after = rf"(?!{_LETTER})"
    inner = r"\s+".join(map(re.escape, stripped.split()))
    if not inner:
        return []
    ends = list(accumulate(map(len, texts)))
    firsts = [end - len(text.lstrip()) for text, end in zip(texts, ends, strict=True)]
    return [
        tuple(
            n
            for n, (first, end) in enumerate(zip(firsts, ends, strict=True))
            if first < place.end() and place.start() < end
        )
        for place in re.finditer(f"{before}{inner}{after}", "".join(texts), re.IGNORECASE)
    ]


def _phrase_spots(
    texts: Sequence[str], whole: Sequence[list[int]], counted: Sequence[list[int]], boxes: tuple[Box, ...]
) -> list[Spot]:
    """A phrase as a whole, and its first and last word where it has several; what does not count is left out of it."""
    if not counted:
        return []
    rows = tuple(number for group in counted for number in group)
    spots = [Spot(" ".join(_text(texts, group) for group in whole), (PHRASE,), rows, boxes)]
    if len(whole) > 1:
        for kind, group in ((FIRST, whole[0]), (LAST, whole[-1])):
            if group in counted:
                spots.append(Spot(_text(texts, group), (kind,), tuple(group), boxes))
    return spots


def _kinds_of(text: str, kinds: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The kinds of a word; where nobody named any, every word is one."""
    folded = text.casefold()
    return tuple(kind for kind, words in kinds.items() if folded in words) if kinds else (WORD,)


def _boxes_of(
    group: Sequence[int], phrases: Mapping[str, tuple[int, ...]], boxes: Mapping[str, tuple[Box, ...]]
) -> tuple[Box, ...]:
    """The boxes of the phrase that a word belongs to; none where it belongs to none, or to several."""
    holding = [phrase for phrase, tokens in phrases.items() if set(group) & set(tokens)]
    return boxes[holding[0]] if len(holding) == 1 else ()


def _needs_image(record: Record, group: Sequence[int]) -> bool | None:
    """Whether a word's log probability falls by more than the check's limit without the image; None: not tested."""
    nats = record.facts.checks.get(IMAGE_CHECK, {}).get("nats")
    tokens = [record.tokens[number] for number in group]
    if not isinstance(nats, int | float) or any(token.without_image is None for token in tokens):
        return None
    return sum(token.logprob - (token.without_image or 0.0) for token in tokens) > nats


def _text(texts: Sequence[str], group: Sequence[int]) -> str:
    return "".join(texts[number] for number in group).strip()


def _has_letter(texts: Sequence[str], group: Sequence[int]) -> bool:
    return any(char.isalnum() for char in _text(texts, group))
