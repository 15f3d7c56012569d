"""Whether an answer is the expected one: the rules by which texts are compared.

Flow: answer, expected text -> `exact`, `contains`; answer, several people's answers -> `score`, 0 to 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_PEOPLE, _AGREE = 4, 3
"""From so many answers on people are counted, and so many of the others make an answer right (Antol et al., 2015)."""
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_AS_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
_ARTICLES = ("a", "an", "the")


def exact(answer: str, expected: str) -> bool:
    """Whether both are the same text, white space at the ends aside."""
    return _plain(answer) == _plain(expected)


def contains(answer: str, expected: str) -> bool:
    """Whether the expected text stands in the answer as whole words, in either case."""
    words = r"\s+".join(map(re.escape, _plain(expected).casefold().split()))
    if not words:
        return False
    # As whole words: "red" is not in "covered". An expected text may end in a sign, which has no word's edge.
    return re.search(rf"(?<!\w){words}(?!\w)", _plain(answer).casefold()) is not None


def vqa(answer: str, expected: Sequence[str]) -> float:
    """The accuracy of VQA (Antol et al., ICCV 2015): who says what three of the other people say is right.

    Case, articles, punctuation and numbers as words make no difference. The mean over all choices of the one person who
    is left out; of fewer than four answers, where no three others are left, any one of them is right.

    Args:
        answer: the model's.
        expected: what people answered, usually ten.

    Returns:
        0 to 1.
    """
    said, people = _bare(answer), [_bare(one) for one in expected]
    if len(people) < _PEOPLE:
        return float(said in people)
    agree = people.count(said)
    others = [agree - (one == said) for one in people]
    return sum(min(1.0, count / _AGREE) for count in others) / len(people)


RULES = ("exact", "contains", "vqa")
"""The rules of `score`."""


def score(rule: str, answer: str, expected: Sequence[str]) -> float:
    """How right an answer is by a rule, 0 to 1.

    Args:
        rule: one of `RULES`.
        answer: the model's.
        expected: texts, any of which is right; of "vqa" what people answered.

    Raises:
        ValueError: an unknown rule, or no expected text.
    """
    if rule not in RULES or not expected:
        raise ValueError(f"rule: got {rule!r:.60} of {len(expected)} texts, expected one of {list(RULES)} of some")
    if rule == "vqa":
        return vqa(answer, expected)
    compare = exact if rule == "exact" else contains
    return float(any(compare(answer, one) for one in expected))


def _plain(text: str) -> str:
    """One way to write the same characters, without white space at either end."""
    return unicodedata.normalize("NFC", text).strip()


def _bare(text: str) -> str:
    """A text as VQA compares it."""
    lower = re.sub(r"['’]|(?<=\d),(?=\d)|\.(?!\d)", "", _plain(text).casefold())
    words = re.sub(r"[^\w.:]+", " ", lower).split()
    return " ".join(_AS_DIGITS.get(word, word) for word in words if word not in _ARTICLES)
