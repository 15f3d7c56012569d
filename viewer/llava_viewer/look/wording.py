"""Numbers and selections as a reader sees them: float -> "2.1 %", layers -> "0-3, 14". The only place that rounds.

Spaces inside a number with its unit are no-break spaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llava_viewer.judging import BY_HAND
from llava_wire.findings.patches import NAME as PATCH_CHECK
from llava_wire.findings.patches import PatchCheck, WordPatches
from llava_wire.schema import IMAGE_CHECK

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


def amounts(values: Sequence[float]) -> list[str]:
    """Numbers that are read beside each other, with as many decimals as give the largest three figures."""
    largest = float(f"{max(map(abs, values), default=0.0):.2e}")
    if not 1e-4 <= largest < 1e6:
        return [amount(value) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(largest)))
    # What rounds to nothing has no sign.
    return [f"{round(value, decimals) or 0.0:.{decimals}f}".replace("-", "−") for value in values]


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


def at_revision(name: str, revision: str) -> str:
    """A model's name with its revision, where one is known: of a folder of one's own there is none."""
    return f"{name} @ {revision}" if revision else name


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
    """A check as a label: "self_test" -> "Self-test"."""
    if name == IMAGE_CHECK:
        return "Needs the image"
    if name == PATCH_CHECK:
        return "These patches"
    return name.replace("_", "-").capitalize()


def verdict(right: bool | None) -> str:
    """How a client judged an answer."""
    return "not judged" if right is None else "right" if right else "wrong"


def judged_by(rule: str) -> str:
    """By what a verdict came about, to stand behind it; a person is no rule."""
    return f", {rule}" if rule == BY_HAND else f", by the rule “{rule}”" if rule else ""


SIGNS = {"weak": "○", "even": "≈", "sink": "×", "usual": "=", "particular": "◆"}


def map_verdict(name: str, number: float, held: float | None, place: str) -> str:
    """What a map is worth, in a line with its sign; `held`: the part of it on sinks, None where there are none."""
    figure = percent(number) if name == "weak" else times(number)
    said = {
        "weak": f"only {figure} of the attention is on {place}.",
        "even": f"its brightest patch has only {figure} an even share.",
        "sink": "nearly every word of the answer reads its brightest patch.",
        "usual": f"its brightest patch has {figure} what the other words have there.",
        "particular": f"its brightest patch has {figure} what the other words have there.",
    }
    told = [f"{SIGNS[name]} {name}: {said[name]}"] if name else []
    return " ".join([*told, *([] if held is None else [f"Sinks (×) hold {percent(held)} of this map."])])


COMMAND_HINT = (
    "llava-viewer lies in .venv/bin of the clone: activate that environment (source .venv/bin/activate), or write its "
    "whole path."
)
"""What pages say beside a command that they offer."""
NEEDS = "needs the image"
BLIND = "as likely with the image's patches replaced by their mean"
CAUTION = "That mean may keep a colour that most of the image has."
"""What must stand beside a word that is as likely without the image: the mean is one of this image's own patches."""


def nats_of_need(checks: Mapping[str, Mapping[str, Any]]) -> float | None:
    """By how much the log probability of a word that needs the image falls without it; None where that is not told."""
    if needing_image(checks) is None:
        return None
    nats = checks[IMAGE_CHECK].get("nats")
    return float(nats) if isinstance(nats, int | float) and not isinstance(nats, bool) and nats >= 0 else None


def needing_image(checks: Mapping[str, Mapping[str, Any]]) -> tuple[int, int] | None:
    """How many tokens need the image, and of how many; None where a record's checks do not say."""
    check = checks.get(IMAGE_CHECK, {})
    needing, of = check.get("needing"), check.get("of")
    if check.get("result") != "measured" or type(needing) is not int or type(of) is not int:
        return None
    return (needing, of) if 0 <= needing <= of else None


def need_told(needing: int, of: int, what: str) -> tuple[str, str, str]:
    """What was tested of an answer's words: a label and what stands beside it, and both as one line.

    Where no word needs the image that is no fault: the question alone may bring "yes", right or not.

    Args:
        needing: how many need the image.
        of: how many were tested, of `what` ("content word").
    """
    if needing:
        told = f"{needing} of {count(of, what)}"
        return NEEDS, f"{told}, against its patches’ mean", f"{told} need{'s' if needing == 1 else ''} the image"
    stay = f"the one {what} stays" if of == 1 else f"all {count(of, what)} stay"
    told = f"{stay} as likely; that alone is no fault"
    return "image hidden", told, f"image hidden: {told}"


UNUSED = "Unchanged when hidden does not mean unused."
"""What must stand beside every word with its patches hidden."""


def patches_title(word: WordPatches, view: str) -> str:
    """Which patches of a word were tested."""
    number, many = len(word.patches), "" if len(word.patches) == 1 else "es"
    return f"the {number} brightest patch{many} of “{view}”" if view else f"{number} patch{many} that the request named"


def patches_figures(word: WordPatches) -> tuple[tuple[str, str], ...]:
    """What becomes of a word with some patches alone, with them hidden, and with as many random ones: label, value."""
    return (
        ("alone", percent(word.alone)),
        ("random ones", _spread(word.random_alone, word.random_alone_low, word.random_alone_high)),
        ("hidden", percent(word.hidden)),
        ("random ones", _spread(word.random_hidden, word.random_hidden_low, word.random_hidden_high)),
    )


def _spread(mean: float, low: float, high: float) -> str:
    """A mean with the lowest and the highest, which are left out where all read the same."""
    told = [percent(value) for value in (mean, low, high)]
    return told[0] if len({*told}) == 1 else f"{told[0]} ({told[1]} to {told[2]})"


def _patches_text(check: PatchCheck) -> str:
    """The check of patches in words."""
    ways = [[word.alone, word.random_alone, word.hidden] for word in check.words]
    alone, random, hidden = (sum(p) / len(ways) for p in zip(*ways, strict=True)) if ways else (0.0, 0.0, 0.0)
    most = f"the {check.top}"
    if any(len(word.patches) < check.top for word in check.words):
        most = f"up to {check.top} of the"
    named = f"{most} brightest patches of “{check.view}”" if check.view else "patches named by the request"
    return (
        f"{len(check.words)} of {count(check.of, 'token')} tested with {named}: mean probability {percent(alone)} with "
        f"them alone, {percent(random)} with as many random ones ({check.sets} sets), {percent(hidden)} with them "
        f"hidden. {UNUSED}"
    )


def check_text(check: Mapping[str, Any], name: str = "") -> str:
    """A check in words: its result, then what it measured under the names that it gave."""
    if (found := needing_image({name: check})) is not None:
        of, nats = count(found[1], "token"), check.get("nats")
        needing = f"{found[0]} of {of} need the image: their" if found[0] else f"none of {of} needs the image: no"
        return (
            f"{needing} log probability falls by more than {nats} nats where all of its patches "
            "are replaced by their mean"
        )
    if (patches := PatchCheck.of_checks({name: check})) is not None:
        return _patches_text(patches)
    figures = [
        f"{key.replace('_', ' ')} {value:.2g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in check.items()
        if key != "result"
    ]
    return "; ".join([str(check.get("result", "not tested")), *figures])
