"""Several answers in one page: each as a reader of its own, beside a native switch.

Flow: a record with alternatives -> one `Choice` each (its text, what tells it apart) -> its part of the page, whose ids
get a prefix of their own -> `static/report/answers.js` keeps the chosen one alone and takes the prefix away again, so
that the other parts of the script meet a page of one answer; without it the style sheet shows the chosen one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from llava_wire.record import Record

_NAMED = re.compile(r'(?<= )(id|for|name|aria-labelledby|aria-describedby|href)="(#?)([^"]*)"')
_ID = re.compile(r' (?:id|name)="([^"]+)"')


class TogetherError(ValueError):
    """Records that are no answers to one question; the message has both facts."""


@dataclass(frozen=True)
class Choice:
    """One answer of the switch.

    Args:
        number: as `Record.sequence` counts it; key: the id of its radio button.
        score: what tells it from the others: its log probability, a beam's score, a sample's seed.
        spoken: all of it in words, for who does not see the switch.
        opens: whether the page opens with it; body: its part of the page.
    """

    number: int
    key: str
    ordinal: str
    text: str
    score: str
    spoken: str
    opens: bool = False
    body: str = ""

    @property
    def prefix(self) -> str:
        """What the ids of its part of the page begin with."""
        return _prefix(self.key)


def choices_of(record: Record) -> list[Choice]:
    """The answers of a record, in its order; none where it has one alone."""
    if not record.alternatives:
        return []
    answers = [record, *record.alternatives]
    models = {(one.facts.model.name, one.facts.model.revision) for one in answers}
    return [_choice(number, answers, apart=len(models) > 1) for number in range(len(answers))]


def _choice(number: int, answers: Sequence[Record], *, apart: bool) -> Choice:
    own = answers[number]
    ordinal, score = f"{number + 1} of {len(answers)}", _score(own, apart=apart)
    same = next((i for i in range(number) if answers[i].answer == own.answer), None)
    text = own.answer if same is None else f"{own.answer} (the same text as {same + 1})"
    told = [f"Answer {ordinal}", *([score] if score else []), text or "no text"]
    return Choice(number, f"n{number}", str(number + 1), text or "(no text)", score, ": ".join(told))


def _score(record: Record, *, apart: bool) -> str:
    sampling, tokens = record.facts.sampling, record.facts.tokens
    parts = [f"log p {_decimal(sum(token.logprob for token in tokens))}"] if tokens else []
    if isinstance(sampling.get("score"), float):
        parts.append(f"score {_decimal(sampling['score'])}")
    if "seed" in sampling:
        parts.append(f"seed {sampling['seed']}")
    if apart:
        parts.append(f"{record.facts.model.name} @ {record.facts.model.revision[:8]}")
    return " · ".join(parts)


def _decimal(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def prefixed(part: str, key: str) -> Markup:
    """A part of a page whose ids, groups of buttons and references to them begin with a key; the first answer's do not.

    Quotes in text are written as entities, so that nothing but attributes is met.
    """
    prefix = _prefix(key)
    if not prefix:
        return Markup(part)
    own = set(_ID.findall(part))

    def named(match: re.Match[str]) -> str:
        attribute, mark, value = match.groups()
        if attribute == "href" and not mark:
            return match[0]
        return f'{attribute}="{mark}{" ".join(f"{prefix}{id}" if id in own else id for id in value.split(" "))}"'

    return Markup(_NAMED.sub(named, part))


def _prefix(key: str) -> str:
    return "" if key == "n0" else f"{key}-"


def prefixed_css(rules: str, key: str) -> str:
    """The rules of one answer's page, for that answer alone and of no more weight than they had."""
    prefix = _prefix(key)
    rules = re.sub(r"#([\w-]+)(?=:checked)", rf"#{prefix}\1", rules)
    rules = re.sub(r"\[for=([\w-]+)\]", rf"[for={prefix}\1]", rules)
    return f":where([data-answer={key}]){{{rules}}}"


def together(records: Sequence[Record], names: Sequence[str]) -> Record:
    """Records of one question about the same images as one record with alternatives, in their order.

    Args:
        records: one or more; their own alternatives stand behind each.
        names: what each is called in errors.

    Raises:
        TogetherError: questions, images or grids differ.
    """
    first, *others = records
    for name, other in zip(names[1:], others, strict=True):
        for what, one, two in (
            ("the question", first.facts.prompt.text, other.facts.prompt.text),
            ("images", _images(first), _images(other)),
            ("grids of patches", _grids(first), _grids(other)),
        ):
            if one != two:
                raise TogetherError(
                    f"answers: got {what} {two!r:.200} ({name}) and {one!r:.200} ({names[0]}), expected the same for "
                    "all; render each by itself, or compare them (llava-viewer compare)"
                )
    answers = [each for one in records for each in (one, *one.alternatives)]
    bare = [replace(one, run={}, picture=None, further_pictures=(), alternatives=()) for one in answers[1:]]
    seen = next((one for one in records if one.pictures), first)
    return replace(first, picture=seen.picture, further_pictures=seen.further_pictures, alternatives=tuple(bare))


def _images(record: Record) -> list[tuple[int, int, str]]:
    return [(image.width_px, image.height_px, image.pixels_sha256[:16]) for image in record.facts.images]


def _grids(record: Record) -> list[tuple[str, int, int]]:
    return [(grid.name, grid.rows, grid.cols) for grid in record.grids]
