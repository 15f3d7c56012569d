"""Where is X decided? The table of docs/design.md has one file for each decision, and nothing else decides it too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from llava_viewer.look.frames import FLAT_TIMES, LOW_IMAGE_SHARE, TOP_PATCHES, low_share_text

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")
PYTHON, EVERYWHERE = ("handler/**/*.py", "viewer/**/*.py"), ("handler/**/*.py", "viewer/**/*.py", "scripts/**/*.py")


@dataclass(frozen=True)
class TellTale:
    """What a line looks like that makes a decision: a pattern, another way to write it, and where it is looked for."""

    pattern: str
    instead: str
    places: tuple[str, ...] = PYTHON


TELL_TALES = {
    "how a share is written in percent": TellTale(r"NBSP\}%|:\.\d+%\}", 'text = f"{share:.1%} on the image"'),
    "how a share is written in percent, in a page's script": TellTale(
        r"NBSP\}%`;", "return `${(100 * share).toFixed(1)}${NBSP}%`;", ("viewer/**/*.js",)
    ),
    "how a number of bytes is written": TellTale(
        r"/ (1000|1e3|1e6|1_000_000):\.\d", 'return f"{count_bytes / 1000:.1f} kB"'
    ),
    "where a value's mark stands on a legend": TellTale(
        r"min\(100(\.0)?, 100 \*", "at = round(min(100.0, 100 * uniform / peak), 1)"
    ),
    "below which share a map is nearly no evidence, and in what words": TellTale(
        r"(?i)image_share = 0|share <=? 0?\.\d|map is nearly no evidence\.\"", "if item.image_share < 0.05:"
    ),
    "which tokens of an answer are ordinary, and which rows a mean takes": TellTale(
        r"(if|and|or|\() ?not [\w.\[\]]*\.special\b", "written = sum(not token.special for token in record.tokens)"
    ),
    "what maps are drawn on, with and without an image": TellTale(
        r"carried=True\)|\bcheckered\(|on a plain ground", "photo = prepare(carried, carried=True)"
    ),
    "what lies under the transparent parts of an image": TellTale(
        r"\(255, 255, 255|ground\.alpha_composite", 'background = Image.new("RGB", picture.size, (255, 255, 255))'
    ),
    "how an answer is decoded (greedy, sampled, by beam search, given), and what differs by it": TellTale(
        r"(beams|sequences) ?([<>]|[=!]=) ?\d|\boptions\.sampling\b|(checked\.kind|decoding\.(name|batch)) [=!]= [\"'(]"
        r"|isinstance\(.*\b(Greedy|Sampled|Beams|Given)\b",
        "wide = options.num_beams if options.num_beams > 1 else 1",
        ("handler/**/*.py",),
    ),
    "where a model's weights lie": TellTale(
        r"(?i)store / \"weights\"", 'folder = MODEL_STORE / "weights" / model', EVERYWHERE
    ),
    "who works on which part of a run, and when that counts no more": TellTale(
        r"\.claim\"", 'claim = path.with_suffix(".claim")'
    ),
    "how a file takes another's place": TellTale(r"\bos\.(replace|rename)\(", "os.replace(partial, path)", EVERYWHERE),
    "what several images of a request are called": TellTale(r"f\"image_\{", 'name = f"image_{number + 1}"', EVERYWHERE),
    "where running servers keep their files, and what they are called": TellTale(
        r"[\"'/]server\.json[\"']|/ \"\.run\"", 'path = ROOT / ".run" / name', EVERYWHERE
    ),
    "what a record of version 1 is in version 2": TellTale(
        r"\"image_(start|count)\"", 'count = document["prompt"]["image_count"]'
    ),
    "how maps of a quantity are stored in each precision": TellTale(
        r"[=(] ?\"(sqrt|linear|signed)-u8\"", 'squared = encoding == "sqrt-u8"'
    ),
    "which palette and scale the maps of a quantity have": TellTale(
        r"DIFFERENCE if ", "palette = DIFFERENCE if view.quantity.signed else palette"
    ),
    "which families each method of this house was shown on": TellTale(
        r"(computed|replayed)\": ?[\[({\w]", 'return {"computed": ("llava",)}', ("handler/**/*.py", "viewer/**/*.py")
    ),
    "which patches are sinks": TellTale(
        r"\.mean\((axis=)?0\) >=? ", "sinks = (rows >= 2 * even).mean(0) >= 0.9", EVERYWHERE
    ),
    "which patches lie in a box or a mask": TellTale(
        r"x0 <= \w+|<= x1\b", "inside = (x0 <= x) & (x <= x1)", EVERYWHERE
    ),
    "how many patches of a map a check takes, and which": TellTale(
        r"patches //? ?16", "top = max(1, patches // 16)", ("handler/**/*.py",)
    ),
    "how a peak is judged, ties included": TellTale(
        r"== \w+\.max\(-1|inside.*\[[^\]]*argmax",
        "hit = centres_inside(rectangles, box).ravel()[flat.argmax(-1)]",
        EVERYWHERE,
    ),
    "the 95 % interval of a share": TellTale(r"\b1\.9[56]\d*\b", "spread = 1.96 * error", EVERYWHERE),
}
"""By the decisions of docs/design.md."""


def decisions() -> dict[str, str]:
    """The table of docs/design.md: what is decided -> the one file that decides it."""
    rows = DESIGN.split("| decision | file |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return dict(re.findall(r"^\| (.+) \| `(.+)` \|$", "\n".join(rows), re.MULTILINE))


def test_every_decision_has_its_file_and_its_tell_tale() -> None:
    assert set(decisions()) == set(TELL_TALES)


def test_limits_that_a_pages_script_must_repeat_are_the_same() -> None:
    script = (ROOT / "viewer/llava_viewer/static/report/facts.js").read_text("utf-8")
    limits = {r"image < ([\d.]+)": LOW_IMAGE_SHARE, r"map\.max < ([\d.]+) \* even": FLAT_TIMES}
    limits |= {r"const TOP_PATCHES = (\d+);": TOP_PATCHES}
    assert low_share_text(0.5, "the image") == ""
    sentence = low_share_text(0.02, "the image").partition("%")[2]
    assert f"{sentence}`" in script, "the page's script warns in other words"
    for pattern, value in limits.items():
        assert [float(found) for found in re.findall(pattern, script)] == [value], pattern


@pytest.mark.parametrize("decision", TELL_TALES)
def test_a_decision_is_made_in_one_place(decision: str) -> None:
    home, tale = decisions()[decision], TELL_TALES[decision]
    assert re.search(tale.pattern, tale.instead), "another way to decide it would be seen"
    found: dict[str, list[str]] = {}
    for path in sorted({path for place in tale.places for path in ROOT.glob(place)}):
        if lines := [line for line in path.read_text("utf-8").splitlines() if re.search(tale.pattern, line)]:
            found[path.relative_to(ROOT).as_posix()] = lines
    assert list(found) == [home], found
