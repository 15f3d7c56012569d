"""The table of docs/checks.md, between marks.

Flow: docs/benchmarks/checks.json -> words kept with some patches alone and hidden, what tells right from wrong.
"""

from __future__ import annotations

from bench.known.page import between, cell, head, row
from bench.known.separation import (
    BOX,
    RANDOM,
    TOKENS,
    Raw,
    area,
    kept,
    maps,
    needing,
    views_of,
)
from bench.known.sets import WRONG
from bench.parts.results import Result
from servekit.paths import ROOT

PAGE = ROOT / "docs" / "checks.md"


def marks(model: str) -> tuple[str, str]:
    """Between which lines of the page a model's table stands."""
    return f"<!-- checks of {model}: written by python -m bench.known.checks -->", f"<!-- checks of {model}: end -->"


def replaced(document: str, result: Result) -> str:
    """The document with the measurement between its marks."""
    return between(document, *marks(result.settings["model"]), text(result))


def text(result: Result) -> str:
    """Markdown of a measurement."""
    raw, settings = result.raw, result.settings
    said = (
        f"One small model, {settings['model']}, on {settings['scenes']} scenes that it was never trained or tuned on "
        f"(seed {settings['seed']}; a description and one other question of each, {len(raw[TOKENS]['scene']):,} "
        "tokens, "
        f"{int(needing(raw)[1].sum()):,} of which need the image: log p really falls by more than 1 nat where the "
        f"scene's objects are painted over). Patches are tested of the {len(raw[BOX]['scene']):,} such words that name "
        "an object in a description; *kept* are words whose p stays above .5. In parentheses 95 % intervals over "
        "scenes (bootstrap)."
    )
    return "\n\n".join([said, _kept(raw, settings["top"]), _told(raw)])


def _kept(raw: Raw, top: int) -> str:
    lines = head([f"{top} patches of", "words", "kept with them alone", "kept when they are hidden"])
    kinds = {"the object's box": BOX, "random places": RANDOM}
    kinds |= {f"the map of `{view}`": view for view in views_of(raw)}
    for name, kind in kinds.items():
        count = len(raw[kind]["scene"])
        lines.append(row([name, f"{count:,}", *(cell(kept(raw, kind, way)) for way in ("alone", "hidden"))]))
    return "\n".join(lines)


def _told(raw: Raw) -> str:
    views = views_of(raw)
    lines = head(["what is told apart", "by", "n", "AUROC"])
    cases = {("tokens that need the image, from others", "`image`: the fall of log p"): needing(raw)}
    way = "`patches`: p with them alone"
    cases[("right maps from wrong ones", way)] = maps(raw, views)
    cases |= {(f"right maps of `{view}` from wrong ones", way): maps(raw, [view]) for view in views}
    cases |= {(f"right maps from wrong ones: {kind}", way): maps(raw, views, [kind]) for kind in WRONG}
    cases[("right maps from wrong ones", "`patches`: how low p is with them hidden")] = maps(raw, views, way="hidden")
    for (what, by), found in cases.items():
        count = f"{found[1].sum():,} and {(~found[1]).sum():,}"
        lines.append(row([what, by, count, cell(area(*found))]))
    return "\n".join(lines)
