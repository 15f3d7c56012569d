"""A record of three answers to one question, as beam search gives them: other words and other maps on one image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llava_wire.record import Record
from support.synthetic import WORDS, make_record

ANSWERS = (WORDS, ("One", " red", " circle", " and", " nothing", " more", "."), ("Two", " shapes", "."))


def make_answers(words: tuple[tuple[str, ...], ...] = ANSWERS, **options: Any) -> Record:
    """The first answer with the others as its alternatives; their maps differ, their image is the same."""
    options = {"reductions": ("layers_heads", "none"), **options}
    whole = make_record(words=words[0], **options)
    made = [whole, *(make_record(words=own, **{**options, "seed": 7 + i}) for i, own in enumerate(words[1:]))]
    answers = []
    for number, one in enumerate(made):
        sampling = {"num_beams": 3, "length_penalty": 1, "score": -0.25 * (1 + number), "greedy": True}
        sampling |= {"sequence": number, "sequences": len(made)}
        tokens = tuple(replace(token, logprob=token.logprob * (1 + number)) for token in one.facts.tokens)
        facts = replace(one.facts, images=whole.facts.images, tokens=tokens, sampling=sampling)
        answers.append(replace(one, facts=facts, run={}, picture=None))
    return replace(answers[0], picture=whole.picture, run=whole.run, alternatives=tuple(answers[1:]))
