"""A record becomes one HTML file: `Record` -> `Report` -> templates -> text with its own content security policy.

Everything is escaped by the templates; the only text that is not is the package's own style sheet and script, whose
hashes the policy names, so that nothing else in the file can run or style anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llava_viewer.look import colormap
from llava_viewer.look.frames import LIMITS, MAX_STATIC_FRAMES
from llava_viewer.look.heatmap import packed
from llava_viewer.look.text import visible
from llava_viewer.look.view_model import Report
from llava_viewer.look.wording import BLIND, CAUTION, size
from llava_viewer.one_grid import unfolded
from llava_viewer.pages.answers import choices_of, prefixed
from llava_viewer.pages.assemble import Pictures, build_report
from llava_viewer.pages.onto import told
from llava_viewer.pages.opening import answer_of, opening_of, usual
from llava_viewer.pages.styles import plain_css, report_css, report_script, script_text, scripted_css
from llava_viewer.version import package_version
from llava_wire.record import Record

WARN_BYTES = 5_000_000
MAX_BYTES = 25_000_000
MAX_VALUES, MAX_MAPS = 25 << 20, 500_000
"""The most values and maps of a page: of the largest response that a server gives by itself."""
_SMALLER_MAPS = (
    "ask for fewer layers and heads (--layers, --heads), for their means (--reduction layers_heads) or, of shares, for "
    "blocks (--precision blocks)"
)
_VALUES_OF_BLOCKS = 4
"""How many values of maps in blocks count as one."""
_ROW_BYTES, _FRAME_BYTES, _PANEL_BYTES, _READ_BYTES = 600, 800, 2000, 80
"""What a token, a map with elements of its own, a view of a grid and a row's words take in a page, at least."""


class ReportTooLargeError(ValueError):
    """A report over `MAX_BYTES`; the message names what makes it smaller."""


def render_report(
    record: Record,
    *,
    picture: Pictures | None = None,
    embed_image: bool = True,
    title: str | None = None,
    notes: Sequence[str] = (),
    opening: str = "",
) -> str:
    """The complete HTML text of a report; the same record gives the same text.

    Args:
        picture: (file name, bytes) or the bytes alone, shown instead of the record's own; of several pictures a list of
            their bytes.
        embed_image: False leaves the picture out and says so.
        title: the heading, the question when absent.
        notes: warnings that the page shows at its top.
        opening: the state that the page opens in, as its address has it: "t=4&v=mean".

    A record with alternatives has a switch between its answers.

    Raises:
        ReportTooLargeError: the text would be over 25 MB.
        OpeningError: the report has no such state.
    """
    answers = [record.sequence(number) for number in range(1 + len(record.alternatives))]
    _check_size([unfolded(one) for one in answers])
    chosen, choices = answer_of(opening, len(answers)), choices_of(record)
    reports = [build_report(one, picture=picture, embed_image=embed_image, title=title, notes=notes) for one in answers]
    of_each = [_context(one, own) for one, own in zip(answers, reports, strict=True)]
    apart = any(view.atlas or len(view.slots) > 1 for report in reports for view in report.views)
    script = report_script(
        quantities=any(not view.share for report in reports for view in report.views),
        grids=any(report.several for report in reports),
        blocks=any(report.in_blocks for report in reports),
        heads=apart,
        answers=bool(choices),
    )
    states = [usual(report) for report in reports]
    if opening:
        states[chosen] = opening_of(reports[chosen], opening)
    hold = script_text("hold").strip()
    same: dict[str, Any] = {"hold": Markup(f"<script>{hold}</script>"), "apart": apart}
    same["palettes"] = [_palette(name) for name in colormap.PALETTES]
    parts = []
    for choice, context, state in zip(choices, of_each, states, strict=False):
        own = {**same, **context, "opening": state, "choices": choices, "own_answer": choice.key}
        body = prefixed(_environment().get_template("one_answer.html.j2").render(**own), choice.key)
        parts.append(replace(choice, opens=choice.number == chosen, body=body))
    html = page(
        "report.html.j2",
        css=(report_css(*reports, opens=chosen), plain_css(*reports), scripted_css()),
        scripts=(script_text("early"), hold, script_text("start"), script),
        packed_script=packed(script.encode("utf-8")),
        opening=states[chosen],
        answers=parts,
        choices=choices,
        difference=_palette(colormap.DIFFERENCE),
        spot_table=colormap.alpha_table(inverse=True),
        sinks=any(view.sinks for report in reports for view in report.views),
        **{**same, **of_each[0], **{name: any(one[name] for one in of_each) for name in ("judged", "tested", "took")}},
    )
    number_bytes = len(html.encode("utf-8"))
    if number_bytes > MAX_BYTES:
        advice = f"{_advice(reports)}{'; or render one answer (--sequence)' if choices else ''}"
        raise ReportTooLargeError(f"report: got {size(number_bytes)}, expected {size(MAX_BYTES)}; {advice}")
    return html


def _context(record: Record, report: Report) -> dict[str, Any]:
    """What the templates show of one answer."""
    chooseable = [row for row in (*report.question_rows, *report.rows) if row.key]
    frames = [frame for view in report.views for slot in view.slots for frame in slot.frames]
    return {
        "report": report,
        "chooseable": chooseable,
        "by_key": {row.key: row for row in chooseable},
        "onto": told(record.grids),
        "images": len(record.facts.images),
        "splits": any(frame.split for frame in frames),
        "limits": LIMITS,
        "judged": any(frame.verdict for frame in frames),
        "tested": any(row.without_image for row in report.rows),
        "blind": (BLIND, CAUTION),
        "took": any(row.took for row in report.rows),
    }


def _check_size(answers: Sequence[Record]) -> None:
    """Refuses what could only become a page that is too large, before it is made."""
    least = values = maps = 0
    for record in answers:
        frames = 0
        for view in record.views.values():
            held = math.prod(view.lead)
            queries = len(record.queries) if "query" in view.axes else 1
            # Blocks weigh less than a byte for each of their values, but all of these are computed.
            values += view.stored.size if view.kept is None else held * view.patches // _VALUES_OF_BLOCKS
            maps += held
            frames += held + queries if held <= MAX_STATIC_FRAMES else queries
        least += len(record.tokens) * _ROW_BYTES + frames * _FRAME_BYTES + len(record.views) * _PANEL_BYTES
        least += len(record.queries) * len(record.texts) * _READ_BYTES
    got = f"{size(least)} or more" if least > MAX_BYTES else f"{values} values in {maps} maps"
    if least > MAX_BYTES or values > MAX_VALUES or maps > MAX_MAPS:
        allowed = size(MAX_BYTES) if least > MAX_BYTES else f"{MAX_VALUES} in {MAX_MAPS}"
        raise ReportTooLargeError(
            f"report: got {got}, expected {allowed}; ask for fewer layers and heads (--layers, --heads), views "
            "(--view) or steps (--steps), or for --precision blocks"
        )


def _advice(reports: Sequence[Report]) -> str:
    """What makes a report smaller, the part that weighs most first."""
    views = [view for report in reports for view in report.views]
    atlases = sum(len(block.text) for view in views if view.atlas for block in view.atlas.blocks)
    photo = sum(len(stage.photo_uri) for stage in reports[0].stages if stage.holds_picture)
    frames = sum(len(frame.uri) for view in views for slot in view.slots for frame in slot.frames)
    parts = (
        (atlases, _SMALLER_MAPS),
        (frames, "ask for fewer views (--view) or fewer steps (--steps)"),
        (photo, "leave the image out (--no-image)"),
    )
    return "; or ".join(text for weight, text in sorted(parts, key=lambda part: -part[0]) if weight)


def report_size_note(html: str) -> str | None:
    """A warning for a report that is large to mail or to open, or None."""
    number_bytes = len(html.encode("utf-8"))
    if number_bytes < WARN_BYTES:
        return None
    return (
        f"the report is {size(number_bytes)}; fewer views (--view), fewer steps (--steps) or --no-image make it smaller"
    )


def page(
    template: str, *, css: tuple[str, ...], scripts: tuple[str, ...], beside: bool = False, **context: object
) -> str:
    """One page from a template, with the policy that allows these style sheets and scripts only.

    `beside` allows scripts in files beside the page as well, for pages that load data of theirs as they need it.
    `css` and `scripts` go into the page as they are: they must be the package's own.
    """
    styles = " ".join(f"'{_digest(sheet)}'" for sheet in css)
    code = " ".join([f"'{_digest(script)}'" for script in scripts] + (["'self'"] if beside else []))
    policy = (
        f"default-src 'none'; img-src data:; style-src {styles}; script-src {code}; base-uri 'none'; form-action 'none'"
    )
    own = {"csp": Markup(policy), "css": [Markup(one) for one in css], "scripts": [Markup(one) for one in scripts]}
    return _environment().get_template(template).render(**own, version=package_version(), **context)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("llava_viewer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    """Every value on its way into a page: text is made visible, markup stays as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _palette(name: str) -> dict[str, object]:
    red, green, blue = colormap.filter_tables(name)
    alpha = colormap.difference_alpha_table() if name == colormap.DIFFERENCE else colormap.alpha_table()
    return {"name": name, "red": red, "green": green, "blue": blue, "alpha": alpha}
