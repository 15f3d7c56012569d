"""A record becomes one HTML file: `Record` -> `Report` -> templates -> text with its own content security policy.

Everything is escaped by the templates; the only text that is not is the package's own style sheet and script, whose
hashes the policy names, so that nothing else in the file can run or style anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llava_viewer.look import colormap
from llava_viewer.look.frames import LIMITS, MAX_STATIC_FRAMES
from llava_viewer.look.heatmap import packed
from llava_viewer.look.text import visible
from llava_viewer.look.view_model import Report
from llava_viewer.look.wording import BLIND, CAUTION, size
from llava_viewer.one_grid import unfolded
from llava_viewer.pages.assemble import Pictures, build_report
from llava_viewer.pages.onto import told
from llava_viewer.pages.opening import opening_of, usual
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
    (("Esc",), "let the box go; one token alone"),
    (("?",), "this list"),
)
"""What the report's keys do, as `static/report/keys.js` has them."""


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

    Raises:
        ReportTooLargeError: the text would be over 25 MB.
        OpeningError: the report has no such state.
    """
    _check_size(unfolded(record))
    report = build_report(record, picture=picture, embed_image=embed_image, title=title, notes=notes)
    apart = any(view.atlas or len(view.slots) > 1 for view in report.views)
    quantities = not all(view.share for view in report.views)
    script = report_script(quantities=quantities, grids=report.several, blocks=report.in_blocks, heads=apart)
    hold = script_text("hold").strip()
    chooseable = [row for row in (*report.question_rows, *report.rows) if row.key]
    html = page(
        "report.html.j2",
        css=(report_css(report), plain_css(report), scripted_css()),
        scripts=(script_text("early"), hold, script_text("start"), script),
        hold=Markup(f"<script>{hold}</script>"),
        packed_script=packed(script.encode("utf-8")),
        report=report,
        chooseable=chooseable,
        by_key={row.key: row for row in chooseable},
        opening=opening_of(report, opening) if opening else usual(report),
        onto=told(record.grids),
        images=len(record.facts.images),
        apart=apart,
        splits=any(frame.split for view in report.views for slot in view.slots for frame in slot.frames),
        keys=KEYS,
        limits=LIMITS,
        judged=any(frame.verdict for view in report.views for slot in view.slots for frame in slot.frames),
        tested=any(row.without_image for row in report.rows),
        blind=(BLIND, CAUTION),
        took=any(row.took for row in report.rows),
        palettes=[_palette(name) for name in colormap.PALETTES],
        difference=_palette(colormap.DIFFERENCE),
        spot_table=colormap.alpha_table(inverse=True),
    )
    number_bytes = len(html.encode("utf-8"))
    if number_bytes > MAX_BYTES:
        raise ReportTooLargeError(f"report: got {size(number_bytes)}, expected {size(MAX_BYTES)}; {_advice(report)}")
    return html


def _check_size(record: Record) -> None:
    """Refuses what could only become a page that is too large, before it is made."""
    rows, values, maps, frames = len(record.tokens), 0, 0, 0
    for view in record.views.values():
        held = math.prod(view.lead)
        queries = len(record.queries) if "query" in view.axes else 1
        # Blocks weigh less than a byte for each of their values, but all of these are computed.
        values += view.stored.size if view.kept is None else held * view.patches // _VALUES_OF_BLOCKS
        maps += held
        frames += held + queries if held <= MAX_STATIC_FRAMES else queries
    least = rows * _ROW_BYTES + frames * _FRAME_BYTES + len(record.views) * _PANEL_BYTES
    least += len(record.queries) * len(record.texts) * _READ_BYTES
    got = f"{size(least)} or more" if least > MAX_BYTES else f"{values} values in {maps} maps"
    if least > MAX_BYTES or values > MAX_VALUES or maps > MAX_MAPS:
        allowed = size(MAX_BYTES) if least > MAX_BYTES else f"{MAX_VALUES} in {MAX_MAPS}"
        raise ReportTooLargeError(
            f"report: got {got}, expected {allowed}; ask for fewer layers and heads (--layers, --heads), views "
            "(--view) or steps (--steps), or for --precision blocks"
        )


def _advice(report: Report) -> str:
    """What makes a report smaller, the part that weighs most first."""
    atlases = sum(len(block.text) for view in report.views if view.atlas for block in view.atlas.blocks)
    photo = sum(len(stage.photo_uri) for stage in report.stages if stage.holds_picture)
    frames = sum(len(frame.uri) for view in report.views for slot in view.slots for frame in slot.frames)
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
