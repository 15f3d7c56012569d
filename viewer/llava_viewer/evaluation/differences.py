"""How a difference between two runs is told, on the page and in the terminal.

Flow: `Difference` -> its sign and value, its interval, a verdict, in words.
"""

from __future__ import annotations

from llava_eval.tally import Difference

_LEAST = 0.0005
"""What is less is nothing at the places that are shown: how a batch was put together makes such differences."""


def signed(value: float) -> str:
    """ "+0.052"."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def interval_of(one: Difference) -> str:
    """ "+0.010 to +0.094"; "" where there is none, or where it has no width, which is no certainty."""
    if one.low is None or one.high is None or one.low == one.high or _is_nothing(one):
        return ""
    return f"{signed(one.low)} to {signed(one.high)}"


def verdict_of(one: Difference) -> str:
    """Whether the runs are told apart, in words."""
    if _is_nothing(one):
        return "equal"
    if one.told_apart:
        return "higher here" if one.value > 0 else "lower here"
    # An interval that leaves out zero all the same is too narrow, as it is of few images.
    apart = one.low is None or one.high is None or not one.low <= 0 <= one.high
    return "too few to tell" if apart else "not told apart"


def _is_nothing(one: Difference) -> bool:
    return max(map(abs, (one.value, one.low or 0.0, one.high or 0.0))) < _LEAST
