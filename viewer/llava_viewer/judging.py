"""What a client says of an answer: whether it is the expected one, by which rule, and words to find it by.

Flow: `Record` + expected text, rule, tags -> `annotated` -> the same record with `Facts.annotations`. A server writes
none of this, and a rule compares texts: no model is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from llava_eval.answers import contains, exact
from llava_wire import limits
from llava_wire.record import Record
from llava_wire.schema import Annotations, Facts

BY_HAND = "judged by hand"
"""The rule of a verdict that a person gave."""


RULES: dict[str, Callable[[str, str], bool]] = {"exact": exact, "contains": contains}
"""How an answer is compared with the expected one: the same text, or the text as whole words in it, in either case."""
DEFAULT_RULE = "exact"


def annotated(
    record: Record,
    expected: str | None = None,
    *,
    rule: str = DEFAULT_RULE,
    right: bool | None = None,
    tags: Sequence[str] = (),
    sequence: int | None = None,
) -> Record:
    """The record with what its reader says of its answers; what was said before stays unless it is said anew.

    Args:
        record: the record.
        expected: the expected answer, which `rule` compares with the answer; None leaves verdict and expectation.
        rule: one of `RULES`.
        right: a verdict given by a person, which goes before that of the rule; None where there is none.
        tags: words to find the record by, added to those that it has.
        sequence: which of several answers, as `Record.sequence` counts them; None for each of them, by itself.

    Raises:
        ValueError: an expected answer that is empty or too long, an unknown rule, a tag that is empty or too long, too
            many tags, or no such answer.
    """
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r:.60}, expected one of {list(RULES)}")
    if expected is not None and not 1 <= len(expected.strip()) <= limits.MAX_TEXT_CHARS:
        raise ValueError(f"expected: got {len(expected.strip())} characters, expected 1 to {limits.MAX_TEXT_CHARS}")
    for tag in tags:
        if not 1 <= len(tag.strip()) <= limits.MAX_PIECE_CHARS:
            raise ValueError(f"tag: got {len(tag.strip())} characters, expected 1 to {limits.MAX_PIECE_CHARS}")
    for number in range(1 + len(record.alternatives)) if sequence is None else [sequence]:
        facts = record.sequence(number).facts
        record = record.with_facts(_said(facts, expected, rule, right, tags), number)
    return record


def _said(facts: Facts, expected: str | None, rule: str, right: bool | None, tags: Sequence[str]) -> Facts:
    said = facts.annotations or Annotations()
    if expected is not None:
        said = replace(said, expected=expected.strip(), rule=rule, right=RULES[rule](facts.answer, expected))
    if right is not None:
        said = replace(said, right=right, rule=BY_HAND)
    all_tags = tuple(dict.fromkeys((*said.tags, *(tag.strip() for tag in tags))))
    if len(all_tags) > limits.MAX_TAGS:
        raise ValueError(f"tags: got {len(all_tags)}, expected {limits.MAX_TAGS} at most; name fewer")
    said = replace(said, tags=all_tags)
    return replace(facts, annotations=None if said == Annotations() else said)
