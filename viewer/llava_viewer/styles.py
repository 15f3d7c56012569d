"""The page's style sheet: the static files plus the rules that tie radio buttons to what they show.

Generated rules hold nothing but the keys that `llava_viewer` made itself ("t7", "v0", "s0-3"): no text of the record
ever reaches the style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from llava_viewer.colormap import PALETTES
from llava_viewer.view_model import LEVELS, Report


def static_text(name: str) -> str:
    """A file of the package's static folder."""
    return files("llava_viewer").joinpath("static", name).read_text("utf-8").strip() + "\n"


def report_css(report: Report) -> str:
    """The whole style sheet of one report."""
    keys = [row.key for row in (*report.question_rows, *report.rows) if row.key]
    special = [row.key for row in report.rows if row.key and row.special]
    rules = [
        _join((f"#{key}:checked~* .{key}" for key in keys), "display:block"),
        # A focused radio is the checked one, so the ring of the chosen word also shows the focus.
        _join(
            (f"#{key}:checked~* [for={key}]" for key in keys),
            "background-color:var(--pick);outline:var(--ring,2px solid)",
        ),
        _join((f"#{key}:checked~* .words [for={key}]" for key in special), "display:inline"),
    ]
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


def _join(selectors: Iterable[str], body: str) -> str:
    listed = ",".join(selectors)
    return f"{listed}{{{body}}}" if listed else ""


def _width(level: int) -> str:
    return f"{100 * level // LEVELS}%"
