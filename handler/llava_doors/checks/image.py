"""Which words need the image: their log probabilities with every image token replaced by their mean.

On known truth (objects painted over) the fall of the log probability tells which words need the image;
the share of attention on the image does not.
"""

from __future__ import annotations

import math

from llava_doors.asked import Reach, Shape
from llava_doors.check import Answer, AskedCheck, Check, Finding
from llava_doors.door import Declaration
from llava_doors.method import Needs, Seen
from llava_wire.choose import ordinary_tokens
from llava_wire.schema import IMAGE_CHECK

DECLARATION = Declaration(
    name=IMAGE_CHECK,
    summary="Which words need the image: each one's probability with every image token replaced by their mean.",
    implementation="llava_doors.checks.image:WithoutImage",
)
NATS = 1.0
"""A word needs the image when its log probability falls by more than this without it."""


class WithoutImage(Check):
    """One teacher-forced forward for all words of the answer."""

    def needs(self, asked: AskedCheck, facts: Shape, reach: Reach) -> Needs:
        """See `Check`."""
        return Needs(rows="none", passes=1)

    def test(self, seen: Seen, answer: Answer, asked: AskedCheck) -> Finding:
        """See `Check`: `needing` of the `of` ordinary words fall by more than `nats`."""
        import torch

        nothing = torch.zeros((1, seen.layout.patches), dtype=torch.bool)
        found = [round(min(value, 0.0), 6) for value in seen.log_probs(nothing)[0].tolist()]
        if not all(map(math.isfinite, found)):
            return Finding(reason="log probabilities without the image are not finite")
        falls = [answer.tokens[number].logprob - found[number] for number in ordinary_tokens(answer.tokens)]
        needing = sum(fall > NATS for fall in falls)
        return Finding({"needing": needing, "of": len(falls), "nats": NATS}, {"without_image": found})
