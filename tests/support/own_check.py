"""Halves: how probable each word stays with the left half of the image alone, and with the right half alone."""

from llava_doors.check import Check, Finding
from llava_doors.door import Declaration
from llava_doors.method import Needs

DECLARATION = Declaration(
    name="halves",
    summary="Each word with the left, and the right, half of the image alone.",
    implementation="own_check:Halves",
)


class Halves(Check):
    """Two forwards for all words of an answer."""

    def needs(self, asked, facts, reach):
        return Needs(rows="none", passes=2)

    def test(self, seen, answer, asked):
        import torch

        left = torch.cat([torch.arange(rows * cols) % cols < cols / 2 for rows, cols in seen.grids])
        found = seen.log_probs(torch.stack([left, ~left])).exp()  # [half, token]
        return Finding({"left": found[0].tolist()[:100], "right": found[1].tolist()[:100]})
