"""The page's style sheet: the static files plus the rules that tie radio buttons to what they show.

The static file and `_state_rules` know the page's state as attributes of `.desk` that the script sets
(`.desk[data-m="map"]`); for a page without the script each such rule is written again with the radio button itself
(`.desk:has(#m-map:checked)`). Generated rules hold nothing but the keys that `llava_viewer` made itself ("t7", "v0",
"s0-3"): no text of the record ever reaches the style sheet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files

from llava_viewer.look.colormap import DEFAULT_PALETTE, DIFFERENCE, PALETTES
from llava_viewer.look.frames import SHARE_PARTS
from llava_viewer.look.view_model import LEVELS, Report, ViewPanel
from llava_viewer.pages.answers import prefixed_css
from llava_viewer.pages.compare_model import Comparison

SCRIPTS = (
    "wording", "joined", "data", "png", "palette", "facts", "choice", "phrase", "stage", "readout", "inside",
    "gallery", "compare", "box", "worth", "figure", "save", "copy", "keys", "tour", "main",
)  # fmt: skip
"""The parts of the report's script, in the order in which they need each other; `quantities` comes before the last
where a view shows something else than shares, `one_grid` comes after `origin` and `on_grid` before it where there are
several grids, as do `answers` and `on_answer` where there are several answers, `onto` behind `on_grid`, `blocks` before
these where an atlas has maps in blocks, `layers`, `alike`, `headlist`, `scatter` and `bars` where a view keeps heads
apart."""
KEYS = (
    (("←", "→"), "on a word: the word before, the next"),
    (("p", "n"), "the same from anywhere"),
    (("g",), "play and stop"),
    (("w", "W"), "the next word too; without the last"),
    (("v", "V"), "next view, view before"),
    (("[", "]"), "layer before, next layer (or pair, or head)"),
    (("{", "}"), "head before, next head"),
    (("m",), "heat, spotlight, map, photo"),
    (("c",), "next palette"),
    (("s",), "scale of this token or of all"),
    (("u",), "bar under a word: share or probability"),
    (("a", "b", "x"), "keep as A, keep as B, clear both"),
    (("arrows",), "on the image: from patch to patch; with Shift a box"),
    (("Enter",), "on the image: which words looked at this patch"),
    (("Esc",), "clear the box; one token alone"),
    (("?",), "this list"),
)
"""What the report's keys do, as `static/report/keys.js` has them."""
_OF_SEVERAL = (
    ".g{display:none}.card .o{--c:#a9744f;fill:#a9744f}"
    ".grids{position:relative;display:flex;gap:1.2rem;overflow-x:auto;padding:3px 3px .5rem;scrollbar-width:thin;"
    "background:linear-gradient(90deg,var(--bg) 30%,transparent) left/2.5rem 100% no-repeat local,"
    "linear-gradient(-90deg,var(--bg) 30%,transparent) right/2.5rem 100% no-repeat local,"
    "linear-gradient(90deg,#8886,transparent) left/1rem 80% no-repeat,"
    "linear-gradient(-90deg,#8886,transparent) right/1rem 80% no-repeat}"
    ".grids .seg{display:flex;flex:none;flex-wrap:nowrap}.grids legend{float:left;width:auto;white-space:nowrap}"
    ".pickers:not(:has(>:not([hidden]))){display:none}"
    "@media (min-width:56.01rem){.stage,.js .mat>template:first-of-type{max-height:min(50vh,46rem)}}"
    "@media (max-width:56rem){.grids{order:1;padding-bottom:0;gap:.5rem}.grids legend span{display:none}}"
    "@media print{.grids{display:none}}"
    ".onto li{tab-size:8rem}"
)
"""What reports of several grids have beside the static sheet: what belongs to a grid is shown with its views;
the switch of grids is one line, which scrolls sideways where they are many and has a shadow where it goes on."""
_OF_TEXT = (
    ".reads{display:flex;flex-wrap:wrap;gap:.3rem;align-items:baseline;margin:.35rem 0}"
    ".reads mark{color:inherit;padding:.05rem .35rem;border-radius:.25rem;border:1px solid var(--track);"
    "background:linear-gradient(0deg,var(--pick) var(--p,0%),transparent 0)}"
    ".reads bdi{font:1.05rem var(--serif)}.reads b{font-weight:500;font-size:.8rem}"
)
"""What reports of views of text have: the words that were read, the fuller their colour the more."""
_OF_ANSWERS = (
    ".several>input{position:fixed;top:0;left:0;width:1px;height:1px;margin:0;opacity:0;pointer-events:none}"
    ".choices{margin-bottom:.6rem;max-height:8.6rem;overflow:auto;border:1px solid var(--line);border-radius:6px;"
    "background:var(--panel);font-size:.88rem}"
    ".choices label{display:flex;gap:.6rem;align-items:baseline;padding:.25rem .6rem;cursor:pointer}"
    ".choices label+label{border-top:1px solid var(--line)}.choices label:hover{background:var(--soft)}"
    ".choices bdi{flex:1;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}"
    ".choices span{color:var(--dim);font-size:.8rem;white-space:nowrap}"
    ".choices .own{background:var(--pick)}.choices .own span{color:inherit}.choices .own bdi{font-weight:600}"
    ".several>input:focus-visible~[data-answer] .choices{outline:3px solid var(--accent);outline-offset:2px}"
    ".js [data-to]:not([data-to=n0]){display:none}"
)
"""What pages of several answers have: the switch, a line for each answer."""
_STATE = re.compile(r'\[data-(\w+)="([\w-]+)"\]')


def static_text(name: str) -> str:
    """A file of the package's static folder."""
    return files("llava_viewer").joinpath("static", name).read_text("utf-8").strip() + "\n"


def script_text(name: str) -> str:
    """A part of the report's script, its comments and indents left out."""
    lines = static_text(f"report/{name}.js").splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip() and not line.lstrip().startswith("//"))


def report_script(
    *, quantities: bool = False, grids: bool = False, blocks: bool = False, heads: bool = False, answers: bool = False
) -> str:
    """The report's script: its parts in one block, so that their names stay their own; comments stay in the files.

    Args:
        quantities: a view shows something else than shares.
        grids: the record has several grids.
        blocks: an atlas has maps in blocks.
        heads: a view keeps layers or heads apart.
        answers: the page has several answers.
    """
    wanted = {
        "layers": heads,
        "alike": heads,
        "headlist": heads,
        "scatter": heads,
        "bars": heads,
        "blocks": blocks,
        "on_grid": grids,
        "onto": grids,
    }
    wanted |= {"quantities": quantities, "on_answer": answers}
    before = ["origin", *["answers"] * answers, *["one_grid"] * grids]
    after = [name for name, is_wanted in wanted.items() if is_wanted]
    parts = (*before, *SCRIPTS[:-1], *after, SCRIPTS[-1])
    code = "".join(script_text(name) for name in parts)
    told = {"SHEET": scripted_css(), "ACTS": KEYS}
    given = "".join(f"const {name} = {json.dumps(value, ensure_ascii=False)};\n" for name, value in told.items())
    return f'"use strict";\n{{\n{given}{code}}}\n'


def scripted_css() -> str:
    """The style sheet that the script brings with it: of what only it makes."""
    return compact(static_text("scripted.css"))


def report_css(*reports: Report, opens: int = 0) -> str:
    """The style sheet of a page, but for `plain_css`: of one report, or of several answers' and which it opens with."""
    several = any(report.several for report in reports)
    sheet = static_text("base.css") + static_text("report.css") + (f"{_OF_SEVERAL}\n" if several else "")
    rows = [row for report in reports for row in (*report.question_rows, *report.rows)]
    sheet += f"{_OF_TEXT}\n" if any(row.reads for row in rows) else ""
    if len(reports) == 1:
        return compact(sheet) + _own_css(reports[0])
    sheet += _OF_ANSWERS + f".js [data-answer]:not([data-answer=n{opens}],[data-own]){{display:none}}\n"
    return compact(sheet) + "\n".join(prefixed_css(_own_css(one), f"n{i}") for i, one in enumerate(reports)) + "\n"


def _own_css(report: Report) -> str:
    """What depends on what a report shows: its levels, views and image."""
    parts = len(report.share_parts)
    more = f".card .e{{--c:#9a5b9f;fill:#9a5b9f}}.parts dd{{grid-row:1/span {parts}}}"
    width, height = report.stage.view_box.split()[2:]
    first = f".js .desk:not([data-v]) .{report.views[0].key}{{display:block}}"
    room = f".mat>template{{aspect-ratio:{width}/{height}}}{first}"
    rules = (*[more] * (parts > len(SHARE_PARTS)), *_levels(report), *_state_rules(report), room)
    return "\n".join(rules) + "\n"


def plain_css(*reports: Report) -> str:
    """The rules that show what is chosen without the script, which switches this sheet off.

    A browser matches them again for the whole page at each choice: half a second with 512 tokens.
    """
    if len(reports) == 1:
        return _own_plain(reports[0])
    keys = [f"n{i}" for i in range(len(reports))]
    shown = _join((f"#{key}:checked~[data-answer={key}]" for key in keys), "display:block")
    own = (prefixed_css(_own_plain(one), key) for key, one in zip(keys, reports, strict=True))
    links = _join((f".page:has(#{key}:checked) [data-to={key}]" for key in keys), "display:inline")
    return "\n".join((".several>[data-answer],[data-to]{display:none}", shown, links, *own)) + "\n"


def _own_plain(report: Report) -> str:
    keys = [row.key for row in (*report.question_rows, *report.rows) if row.key]
    special = [row.key for row in report.rows if row.key and row.special]
    slots = [slot.key for view in report.views if len(view.slots) > 1 for slot in view.slots]
    single = [view.slots[0].key for view in report.views if len(view.slots) == 1]
    rules = [
        _join((f"#{key}:checked~.desk .{key}" for key in keys), "display:block"),
        _join(
            (f"#{key}:checked~.desk [for={key}]" for key in keys),
            "background-color:var(--pick);outline:var(--ring)",
        ),
        _join((f"#{key}:checked~.desk .words [for={key}]" for key in special), "display:inline"),
        _join((f".desk:has(#{key}:checked) .{key}" for key in slots), "display:block"),
        _join((f".{key}" for key in single), "display:block"),
    ]
    states = [line for line in static_text("report.css").splitlines() if line.startswith(".desk[data-")]
    rules += [_STATE.sub(_checked, line) for line in (*states, *_state_rules(report, scripted=False))]
    return compact("\n".join(rules))


def compact(sheet: str) -> str:
    """A sheet of this package without comments and needless spaces."""
    lines = "\n".join(line.strip() for line in sheet.splitlines() if not line.lstrip().startswith("/*"))
    return re.sub(r"\s*([{}])\s*|([;:,])\s+", lambda match: match[1] or match[2], lines).replace(";}", "}") + "\n"


def _levels(report: Report) -> list[str]:
    """How far the bars under tokens and candidates reach; levels that nothing has need no rule."""
    rows = (*report.question_rows, *report.rows)
    words = [word for row in rows for reads in row.reads for word in (*reads.prompt, *reads.answer)]
    chances = {row.probability_level for row in rows} | {one.level for row in rows for one in row.top}
    rules = [f".b{level}{{--p:{_width(level)}}}" for level in _drawn(chances | {level for _, _, level in words})]
    rules += [f".n{level}{{--n:{_width(level)}}}" for level in _drawn({row.lost_level for row in rows})]
    for number, view in enumerate(report.views):
        index = view.key.removeprefix("v")
        used = _drawn({row.levels[number] for row in rows})
        rules += [f".u{index}_{level}{{--u{index}:{_width(level)}}}" for level in used]
    return rules


def _drawn(levels: set[int]) -> list[int]:
    return sorted(levels - {0})


def _state_rules(report: Report, *, scripted: bool = True) -> list[str]:
    """What depends on the chosen view, palette and mode, in the form that the script uses.

    Without the script, what a page opens with waits for nothing to be chosen: Firefox may paint before it has matched
    `:has`.
    """
    rules: list[str] = []
    for view in report.views:
        index = view.key.removeprefix("v")
        chosen = f'.desk[data-v="{view.key}"]'
        if view is report.views[0] and not scripted:
            # One `:not`, so that it weighs no more than another view's rule, and less than the bar's measure.
            others = ",".join(f'[data-v="{other.key}"]' for other in report.views[1:])
            chosen = f".desk:not({others})" if others else ".desk"
        own = f"{chosen} .{view.key},{chosen} .{view.stage.key}" if report.several else f"{chosen} .{view.key}"
        rules.append(f"{own}{{display:block}}")
        rules.append(f"{chosen} .tok{{--w:var(--u{index},0%)}}")
    for palette in PALETTES:
        if palette == DEFAULT_PALETTE and not scripted:
            continue  # in both sheets already
        chosen = ".desk" if palette == DEFAULT_PALETTE else f'.desk[data-p="{palette}"]'
        rules.append(f"{chosen}{{--heat-colours:url(#f-heat) url(#o-{palette});--map-colours:url(#o-{palette})}}")
    for view in report.views:
        rules += _quantity_rules(view)
    for stage in report.stages[1:]:
        rules.append(f'.desk[data-m="spotlight"] .{stage.key} .hatched{{fill:url(#hatchdark{stage.suffix})}}')
    # The bar's measure is chosen last, so that it goes before the view's.
    rules.append('.desk[data-b="prob"] .tok.tok{--w:var(--p,0%)}')
    if report.tested:
        rules.append('.desk[data-b="need"] .tok.tok{--w:var(--n,0%)}')
    return rules


def _quantity_rules(view: ViewPanel) -> list[str]:
    """What changes in a view whose values are no shares, and in one with values below 0."""
    chosen = f'.desk[data-v="{view.key}"]'
    rules = []
    if not view.share:
        of_shares = (
            ".card>h3:first-of-type,.onto h3,.card>h3 .hint span,.card dl.parts,.card svg.share,.unit:not(.v),"
            ".layers .extras"
        )
        rules.append(f"{chosen} :is({of_shares}){{display:none}}")
    if view.signed:
        # Nothing is dark where nothing was read: in the spotlight signed maps stay in their colours.
        dark = f'{chosen}[data-m="spotlight"]'
        over, alone = f"{{filter:url(#f-apart) url(#o-{DIFFERENCE})}}", f"{{filter:url(#o-{DIFFERENCE})}}"
        rules += [
            f"{chosen} :is(.stage .heat,.gallery use.plate){over}",
            f'{chosen}[data-m="map"] .stage .heat{alone}',
            f"{dark} .stage .heat.heat{over}",
            f"{chosen} :is(.ramp>svg,.strip svg){alone}",
            f"{chosen} .heat rect{{fill:#808080}}",
            f"{chosen} .colours{{display:none}}",  # they have one palette
            f"{chosen} .least{{visibility:hidden}}",
            f"{dark} .ramp{{background:none}}",
            f"{dark} .ramp>svg{{display:inline}}",
        ]
    return rules


def _checked(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f":has(#{value}:checked)" if name == "v" else f":has(#{name}-{value}:checked)"


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
