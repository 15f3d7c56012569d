"""Numbers and selections as a reader sees them: float -> "2.1 %", layers -> "0-3, 14". The only place that rounds.

Spaces inside a number with its unit are no-break spaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NBSP = "\u00a0"


def percent(share: float) -> str:
    """A share 0..1 in percent with two or three significant figures: "42 %", "2.1 %", "0.03 %"."""
    value = 100 * share
    if value <= 0:
        return f"0{NBSP}%"
    if value < 0.001:
        return f"<0.001{NBSP}%"
    if value >= 9.95:
        # Never "100 %" for something less: that would hide the rest.
        text = (
            f"{value:.0f}" if value < 99.5 else ("100" if value >= 99.9995 else f"{math.floor(value * 100) / 100:.2f}")
        )
        return f"{text}{NBSP}%"
    rounded = float(f"{value:.1e}")
    return f"{rounded:.{max(0, 1 - math.floor(math.log10(rounded)))}f}{NBSP}%"


def amount(value: float) -> str:
    """A number with three significant figures: "0.12", "−3.4", "1230"; very small and large ones as "1.23e-5"."""
    rounded = float(f"{abs(value):.2e}")
    if rounded == 0:
        return "0"
    sign = "−" if value < 0 else ""
    if 1e-4 <= rounded < 1e6:
        text = f"{rounded:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"
        return sign + (text.rstrip("0").rstrip(".") if "." in text else text)
    digits, power = f"{rounded:.2e}".split("e")
    return f"{sign}{digits}e{int(power)}"


def times(ratio: float) -> str:
    """A ratio as "12 x" or "1.4 x" with the multiplication sign."""
    return f"{ratio:.0f}{NBSP}×" if ratio >= 9.95 else f"{ratio:.1f}{NBSP}×"


def mark_at(value: float, most: float) -> str:
    """Where a value's mark stands on a legend from 0 to `most`, in % of its length."""
    return plain(round(min(100.0, 100 * value / most), 1) if most > 0 else 0.0)


def plain(value: float) -> str:
    """A number for attributes and programs: four significant figures, no exponent, no trailing zeros."""
    if value == 0 or not math.isfinite(value):
        return "0"
    text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(value: float) -> str:
    """A float32 for programs, in as few digits as give the same float32 again."""
    text = np.format_float_positional(np.float32(value), trim="-")
    return text.removeprefix("0") or "0"


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in their order, runs joined: (0, 1, 2, 14) -> "0–2, 14"."""
    parts: list[str] = []
    start = previous = None
    for number in (*numbers, None):
        if start is not None and previous is not None and number == previous + 1:
            previous = number
            continue
        if start is not None:
            parts.append(str(start) if start == previous else f"{start}–{previous}")
        start = previous = number
    return ", ".join(parts)


def count(number: int, noun: str) -> str:
    """ "1 token", "12 tokens"."""
    return f"{number:,}{NBSP}{noun}{'' if number == 1 else 's'}"


def size(number_bytes: int) -> str:
    """A size in bytes, kB or MB (thousands)."""
    if number_bytes < 1000:
        return f"{number_bytes}{NBSP}bytes"
    if number_bytes < 1_000_000:
        return f"{number_bytes / 1000:.0f}{NBSP}kB"
    return f"{number_bytes / 1e6:.1f}{NBSP}MB"


def error_bound(value: float) -> str:
    """The largest error of a stored value, in percent of a token's attention."""
    return "none (float32)" if value == 0 else f"±{100 * value:.2g}{NBSP}%"


def check_name(name: str) -> str:
    """A check of the model, as a label: "self_test" -> "Self-test"."""
    return name.replace("_", "-").capitalize()


def check_text(check: Mapping[str, Any]) -> str:
    """A check of the model in words: its result, then what it measured under the names that it gave."""
    figures = [
        f"{key.replace('_', ' ')} {value:.2g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in check.items()
        if key != "result"
    ]
    return "; ".join([str(check.get("result", "not tested")), *figures])
