"""The page's style sheet: the static files plus the rules that tie radio buttons to what they show.

Generated rules hold nothing but the keys that `llava_viewer` made itself ("t7", "v0", "s0-3"): no text of the record
ever reaches the style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from llava_viewer.colormap import PALETTES
from llava_viewer.compare_model import Comparison
from llava_viewer.view_model import LEVELS, Report


def static_text(name: str) -> str:
    """A file of the package's static folder."""
    return files("llava_viewer").joinpath("static", name).read_text("utf-8").strip() + "\n"


def plain_css(report: Report) -> str:
    """The rules that show what belongs to the chosen token without JavaScript.

    The script switches this sheet off and marks the chosen elements itself: a browser matches the rules of every token
    again at each choice, which takes half a second with 512 tokens.
    """
    keys = [row.key for row in (*report.question_rows, *report.rows) if row.key]
    special = [row.key for row in report.rows if row.key and row.special]
    rules = [
        _join((f"#{key}:checked~.desk .{key}" for key in keys), "display:block"),
        _join(
            (f"#{key}:checked~.desk [for={key}]" for key in keys),
            "background-color:var(--pick);outline:var(--ring)",
        ),
        _join((f"#{key}:checked~.desk .words [for={key}]" for key in special), "display:inline"),
    ]
    return "\n".join(rule for rule in rules if rule) + "\n"


def report_css(report: Report) -> str:
    """The style sheet of one report, but for `plain_css`."""
    rules: list[str] = []
    for view in report.views:
        index = view.key.removeprefix("v")
        rules.append(_join([f".desk:has(#{view.key}:checked) .{view.key}"], "display:block"))
        rules.append(_join([f".desk:has(#{view.key}:checked) .tok"], f"--w:var(--u{index},0%)"))
        rules += [f".u{index}_{level}{{--u{index}:{_width(level)}}}" for level in range(1, LEVELS + 1)]
        if len(view.slots) > 1:
            rules.append(_join((f".desk:has(#{slot.key}:checked) .{slot.key}" for slot in view.slots), "display:block"))
        else:
            rules.append(f".{view.slots[0].key}{{display:block}}")
    rules += [f".b{level}{{--p:{_width(level)}}}" for level in range(1, LEVELS + 1)]
    for palette in PALETTES:
        chosen = f".desk:has(#p-{palette}:checked)"
        rules.append(f"{chosen} .heat{{filter:url(#h-{palette})}}{chosen} .c-{palette}{{display:block}}")
        rules.append(f".desk:has(#p-{palette}:checked):has(#m-map:checked) .heat{{filter:url(#o-{palette})}}")
        rules.append(f"{chosen} .strip svg{{filter:url(#o-{palette})}}")
    # The bar's measure is chosen last, so that it goes before the view's.
    rules.append(".desk:has(#b-prob:checked) .tok.tok{--w:var(--p,0%)}")
    return static_text("base.css") + static_text("report.css") + "\n".join(rule for rule in rules if rule) + "\n"


def plain_compare_css(comparison: Comparison) -> str:
    """The rules of a comparison that show each run's chosen word without JavaScript, which switches them off."""
    keys = [choice.key for run in comparison.runs for choice in run.choices]
    rules = [
        _join((f"#{key}:checked~.desk .{key}" for key in keys), "display:block"),
        _join(
            (f"#{key}:checked~.desk [for={key}]" for key in keys), "background-color:var(--pick);outline:var(--ring)"
        ),
    ]
    return "\n".join(rule for rule in rules if rule) + "\n"


def _join(selectors: Iterable[str], body: str) -> str:
    listed = ",".join(selectors)
    return f"{listed}{{{body}}}" if listed else ""


def _width(level: int) -> str:
    return f"{100 * level // LEVELS}%"
