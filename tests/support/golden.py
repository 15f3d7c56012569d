"""Reports made comparable: pictures become digests of their pixels, static files become their names.

A golden file then changes when the markup, the words or the numbers change, and not with a library's compression.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image as PillowImage

from llava_viewer import export
from llava_viewer.export.svg import svg_text
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_viewer.pages.styles import compact, script_text, static_text
from llava_viewer.version import package_version
from llava_wire.quantity import Quantity
from llava_wire.record import Record
from llava_wire.schema import Candidate, MethodFacts, Query, TextFacts, Token
from llava_wire.view import TextView
from llava_wire.writing import encode
from support.synthetic import make_record

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
HOSTILE = "</script><img src=x onerror=alert(1)>"
HOSTILE_WORDS = (
    HOSTILE,
    " ]]><!--",
    " \u202egnitide\u202c",
    " שלום",
    " مرحبا",
    " 👩‍👩‍👧‍👦",
    " " + "x" * 300,
    "\n\n",
    "",
    " {{ 7*7 }}",
    " \x00\x1b[31m",
    " ' style='x",
    ' " onfocus="alert(1)',
)


def plain_record() -> Record:
    """Every reduction and a list of pairs on a small grid, cropped left and right."""
    return make_record(
        width_px=96, height_px=64, grid=4, patch_px=8, layers=2, heads=2, pairs=((0, 1), (1, 0)),
        words=("A", " sq", "uare", "."),
    )  # fmt: skip


def hostile_record() -> Record:
    """Text that tries to leave its place in every field that a request or a model can fill."""
    record = make_record(
        width_px=64, height_px=96, grid=4, patch_px=8, layers=1, heads=1, words=HOSTILE_WORDS,
        reductions=("all", "heads"),
        prompt=f'{HOSTILE}" onmouseover="alert(2)',
    )  # fmt: skip
    facts = record.facts
    bad = Token(7, HOSTILE, HOSTILE, -3.0, (Candidate(7, HOSTILE, -3.0), Candidate(8, "]]>", -4.0)))
    facts = replace(
        facts,
        tokens=(bad, *facts.tokens[1:]),
        queries=(*facts.queries[:-1], Query("prompt", 1, 1, 0)),
        model=replace(facts.model, name=HOSTILE, source=HOSTILE, revision=HOSTILE, device=HOSTILE),
        sampling={HOSTILE: HOSTILE},
        software={HOSTILE: HOSTILE},
        prompt=replace(facts.prompt, rendered=HOSTILE, pieces=(HOSTILE,) * len(facts.prompt.ids)),
    )
    views = {
        HOSTILE if name == "heads" else name: replace(
            view, facts=replace(view.facts, name=HOSTILE if name == "heads" else name, head_set=HOSTILE)
        )
        for name, view in record.views.items()
    }
    words = TextFacts(
        f"words {HOSTILE}", (0,), (0,), (), HOSTILE, MethodFacts(HOSTILE), Quantity(HOSTILE, HOSTILE),
        ((0, 2), (len(facts.prompt.ids), 1)),
    )  # fmt: skip
    texts = TextView(words, np.full((len(facts.queries), 3), 0.25, np.float32))
    texts.values[texts.later([query.position for query in facts.queries])] = 0
    return replace(record, facts=facts, views=views, texts={words.name: texts}, run={HOSTILE: {HOSTILE: HOSTILE}})


RECORDS = {"report": plain_record, "hostile": hostile_record}


def comparison() -> str:
    """Two layers of one hostile run beside its whole answer."""
    record = hostile_record()
    picks = [Pick(record, HOSTILE, HOSTILE, layer=0), Pick(record, "b.npz", HOSTILE), Pick(record, "c.npz", "all")]
    return render_compare(picks)


def figure() -> str:
    """A figure of hostile text as SVG."""
    shown = export.show(hostile_record(), view=HOSTILE)
    return svg_text(export.figure(shown, shown.item(0)))


def listing() -> str:
    """The index of a hostile run with a report and a damaged file, beside a plain run without one."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "javascript:alert(1).npz").write_bytes(encode(hostile_record()))
        (root / "javascript:alert(1).html").write_text("x")
        (root / "plain & <b>.npz").write_bytes(encode(plain_record()))
        (root / "cut.npz").write_bytes(b"PK")
        return write_index(root).read_text("utf-8")


PAGES: dict[str, Callable[[], str]] = {
    **{f"{name}.html": partial(lambda made: render_report(made()), made) for name, made in RECORDS.items()},
    "compare.html": comparison,
    "index.html": listing,
    "figure.svg": figure,
}
"""File name -> what makes it."""


def golden_text(name: str) -> str:
    """One of `PAGES`, made comparable."""
    return comparable(PAGES[name]())


def comparable(html: str) -> str:
    """A report without what changes between versions and libraries."""
    html = re.sub(r"data:(image/[a-z]+);base64,([A-Za-z0-9+/=]+)", _digest, html)
    html = re.sub(r"'sha256-[^']+'", "'sha256-...'", html)
    html = re.sub(r'(<script type="text/plain" id="code">)[^<]+', r"\1[script]", html)
    for name in ("early", "start"):
        html = html.replace(script_text(name), f"[{name}.js]\n")
    for name in ("base.css", "compare.css", "compare.js", "index.css", "index.js"):
        html = html.replace(static_text(name), f"[{name}]\n")
    sheet = compact(static_text("base.css") + static_text("report.css"))
    html = html.replace(sheet.removesuffix("\n"), "[base.css, report.css]")  # what some reports add follows at once
    return re.sub(rf"(llava-gaze (?:\w+ )?){re.escape(package_version())}", r"\1VERSION", html)


def _digest(match: re.Match[str]) -> str:
    kind, data = match[1], base64.b64decode(match[2])
    with PillowImage.open(io.BytesIO(data)) as opened:
        if kind in ("image/jpeg", "image/webp"):
            return f"[{kind.removeprefix('image/')} {opened.width}x{opened.height}]"
        pixels = opened.convert("RGBA").tobytes()
        return f"[png {opened.width}x{opened.height} {hashlib.sha256(pixels).hexdigest()[:12]}]"
