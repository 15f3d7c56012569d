"""The HTML text: escaped, self-contained, allowed by its own policy, small, the same twice."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import io
import json
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.look.view_model import LEVELS
from llava_viewer.look.wording import BLIND, CAUTION, NBSP
from llava_viewer.pages import report as render
from llava_viewer.pages.report import ReportTooLargeError, render_report, report_size_note
from llava_wire import decode
from llava_wire.findings.patches import PatchCheck, WordPatches
from support.golden import GOLDEN, HOSTILE, PAGES, RECORDS, golden_text, hostile_record
from support.synthetic import make_record

KEPT = Path(__file__).parents[2] / "data" / "records"
VOID = {"meta", "link", "input", "img", "br", "hr"}
HOLD = "window.hold&&hold()"
ENDED_BY_OTHERS = {"li", "dt", "dd"}


class Reader(html.parser.HTMLParser):
    """Collects elements, and the text of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.script_kinds: list[str | None] = []
        self.open: list[str] = []
        self.held = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.script_kinds.append(dict(attrs).get("type"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] in ENDED_BY_OTHERS and self.open[-1] != tag:
            self.open.pop()
        if tag == "noscript":
            # Its beginning is written by the page's script, when that runs.
            self.held += 1
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)


@pytest.fixture(scope="module", params=sorted(RECORDS))
def page(request: pytest.FixtureRequest) -> str:
    return render_report(RECORDS[request.param]())


def test_golden(request: pytest.FixtureRequest) -> None:
    for name in PAGES:
        stored = (GOLDEN / name).read_text("utf-8")
        assert golden_text(name) == stored, "run `make golden` and look at the difference"


def test_the_same_record_gives_the_same_text() -> None:
    assert render_report(make_record()) == render_report(make_record())


def test_the_policy_allows_exactly_the_own_style_and_script(page: str) -> None:
    reader = Reader(page)
    policy = next(attrs["content"] for tag, attrs in reader.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    scripts = [text for text, kind in zip(reader.raw["script"], reader.script_kinds, strict=True) if kind is None]
    (code,) = [text for text, kind in zip(reader.raw["script"], reader.script_kinds, strict=True) if kind]
    assert scripts.count(HOLD) == reader.held > 5, "each held part begins with the script that holds it"
    scripts = [*dict.fromkeys(scripts)]
    scripts.append(zlib.decompress(base64.b64decode(code)).decode())
    brought = json.loads(re.findall(r"^const SHEET = (.*);$", scripts[-1], re.MULTILINE)[0])
    for kind, texts in (("style", [*reader.raw["style"], brought]), ("script", scripts)):
        assert len(texts) == {"style": 3, "script": 4}[kind]
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert f"{kind}-src " + " ".join(f"'sha256-{digest}'" for digest in digests) + ";" in policy


def test_nothing_is_inline_and_nothing_is_fetched(page: str) -> None:
    reader = Reader(page)
    assert [tag for tag, _ in reader.elements].count("script") == 3 + reader.held
    assert "noscript" not in [tag for tag, _ in reader.elements], "its text would be shown where scripts are blocked"
    assert [tag for tag, _ in reader.elements].count("style") == 2
    for tag, attrs in reader.elements:
        assert "style" not in attrs, tag
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, name)
    assert not re.findall(r"url\((?!#)", "".join(reader.raw["style"]))


def test_ids_are_unique_and_references_resolve(page: str) -> None:
    reader = Reader(page)
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in reader.elements:
        if tag == "use":
            assert (attrs["href"] or "").removeprefix("#") in ids
        if tag == "label" and "for" in attrs:
            assert attrs["for"] in ids


def test_hostile_text_stays_text() -> None:
    page = render_report(hostile_record(), title=HOSTILE, notes=[HOSTILE])
    assert HOSTILE not in page
    assert page.count("<script") == 3 + page.count("</noscript>")
    assert not [1 for tag, _ in Reader(page).elements if tag == "img"]
    page.encode("utf-8")


def test_title_and_notes_are_shown() -> None:
    page = render_report(make_record(), title="A title", notes=["the image's sha256 differs"])
    assert '<h1 dir="auto">A title</h1>' in page
    assert "the image&#39;s sha256 differs" in page


def test_the_picture_can_be_left_out() -> None:
    page = render_report(make_record(), embed_image=False)
    assert '<rect id="photo"' in page
    assert "left out of this report on request" in page
    assert "image/jpeg" not in page


def test_a_large_picture_is_scaled_down() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(noise).resize((2400, 1800)).save(buffer, "JPEG", quality=95)
    record = make_record(width_px=2400, height_px=1800, with_picture=False, reductions=("layers_heads",))
    page = render_report(record, picture=("picture.jpg", buffer.getvalue()))
    found = re.search(r'id="photo" href="data:image/jpeg;base64,([^"]+)', page)
    assert found
    assert PillowImage.open(io.BytesIO(base64.b64decode(found[1]))).size == (1600, 1200)


def test_exif_does_not_reach_the_page() -> None:
    exif = PillowImage.Exif()
    exif[0x010E] = "a secret place"
    buffer = io.BytesIO()
    PillowImage.new("RGB", (256, 192), "teal").save(buffer, "JPEG", exif=exif)
    page = render_report(make_record(), picture=buffer.getvalue())
    for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
        assert b"secret" not in base64.b64decode(data)


def test_a_token_costs_little() -> None:
    """The design's budget: 2.5 KB for each token of a 24 x 24 view, 72 KB for the page, besides the picture."""

    def size(count: int) -> int:
        words = tuple(f" word{number}" for number in range(count))
        record = make_record(
            grid=24, patch_px=14, width_px=640, height_px=480, words=words,
                reductions=("layers_heads",), with_picture=False,
        )  # fmt: skip
        return len(render_report(record).encode())

    for count in (6, 10, 110):
        assert size(count) <= 73_000 + 2500 * (count + 1), count


def test_too_large_is_refused_with_both_numbers_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "MAX_BYTES", 50_000)
    with pytest.raises(ReportTooLargeError, match=r"got \d+.kB or more, expected 50.kB; .*--view.*--steps"):
        render_report(make_record())
    monkeypatch.setattr(render, "_FRAME_BYTES", 0)
    with pytest.raises(ReportTooLargeError, match=r"got \d+.kB, expected 50.kB; .*--view.*--steps"):
        render_report(make_record())
    many = make_record(grid=24, patch_px=14, width_px=640, height_px=480, layers=16, heads=16, reductions=("none",))
    with pytest.raises(
        ReportTooLargeError, match=r"expected 50.kB; ask for fewer layers and heads \(--layers, --heads\)"
    ):
        render_report(many)


def test_a_large_report_has_a_note() -> None:
    assert report_size_note("x" * 1000) is None
    note = report_size_note("x" * 5_000_001)
    assert note is not None
    assert "--view" in note


@pytest.mark.parametrize("path", sorted(KEPT.glob("v*/*.npz")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_kept_records_of_every_version_still_render(path: Path) -> None:
    record = decode(path.read_bytes())
    page = render_report(record)
    assert html.escape(record.answer, quote=False) in page
    assert html.escape(record.facts.prompt.text, quote=False) in page
    for name in record.views:
        assert html.escape(name, quote=False) in page


def test_a_report_tells_what_was_tested_of_each_word():
    plain = make_record(words=("A", " red"), reductions=("layers_heads",))
    assert "No causal test was run for this report." in render_report(plain)
    tokens = tuple(replace(token, without_image=-2.0) for token in plain.tokens)
    checks = {"image": {"result": "measured", "needing": 2, "of": 2, "nats": 1.0}}
    html = render_report(replace(plain, facts=replace(plain.facts, tokens=tokens, checks=checks)))
    assert "No causal test was run" not in html
    assert "without the image (its patches’ mean) <b>14" in html
    tested = "against its patches’ mean"
    assert f"<dt>needs the image</dt><dd>1 of 1\xa0content word, {tested}</dd>" in html, "an article is not counted"
    tokens = tuple(replace(token, without_image=token.logprob) for token in plain.tokens)
    checks["image"]["needing"] = 0
    html = render_report(replace(plain, facts=replace(plain.facts, tokens=tokens, checks=checks)))
    assert "<dt>image hidden</dt><dd>the one content word stays as likely; that alone is no fault</dd>" in html
    assert "0 of" not in html, "what was tested is no fault of the answer"
    assert "none of 2\xa0tokens needs the image: no log probability falls by more than 1.0 nats" in html


def test_bars_show_what_is_lost_without_the_image_and_the_page_opens_on_a_word_that_needs_it():
    plain = make_record(words=("A", " red", " cup"), reductions=("layers_heads",))
    bright = render_report(plain).split('id="b-share" checked')
    assert len(bright) == 2, "without a test the bars are shares"
    for needing in (1, 2):
        tokens = tuple(
            replace(token, without_image=token.logprob + (math.log(0.1) if number == needing else math.log(0.9)))
            for number, token in enumerate(plain.tokens)
        )
        checks = {"image": {"result": "measured", "needing": 1, "of": 3, "nats": 1.0}}
        html = render_report(replace(plain, facts=replace(plain.facts, tokens=tokens, checks=checks)))
        assert re.search(rf'id="t{needing}"[^>]* checked', html)
        [lost] = set(re.findall(rf' n(\d+)[^"]*" for="t{needing}"', html))
        assert int(lost) == round(0.9 * LEVELS)
        assert html.count(">needs the image</p>") == 1
        blind = f'>{BLIND.replace(chr(39), "&#39;")}</p>\n<p class="hint">{CAUTION}'
        assert html.count(blind) == 2, "the end of the answer is no word"
        assert 'id="b-need" checked' in html


def test_a_card_tells_what_patches_alone_and_hidden_do():
    plain = make_record(words=("A", " red"), reductions=("layers_heads",))
    words = (
        WordPatches(0, (3,), 0.5, 0.25, 0.125, 0.001, 0.75, 1.0, 1.0, 1.0),
        WordPatches(1, (3, 4), 1.0, 0.999, 0.2, 0.1, 0.3, 0.9, 0.8, 1.0),
    )
    check = {"result": "measured", **PatchCheck("layers_heads", 2, 16, 0, 3, words).to_plain()}
    tested = replace(plain, facts=replace(plain.facts, checks={"patches": check}))
    report = render_report(tested).replace(NBSP, " ")
    [_, first, second] = report.split("What it took ")
    assert "the 1 brightest patch of “layers_heads”" in first
    assert "<li>alone\t50 %<li>random ones\t12 % (0.10 % to 75 %)<li>hidden\t25 %<li>random ones\t100 %</ol>" in first
    assert "<li>random ones\t90 % (80 % to 100 %)</ol>" in second
    assert report.count("Unchanged when hidden does not mean unused.</p>") == 2
    assert "No causal test was run" not in report
    assert "hiding one of the two changes nothing" in report
    assert "<dt>patches tested</dt><dd>of 2 of 3 tokens</dd>" in report
    assert "2 of 3 tokens tested with up to 2 of the brightest patches of “layers_heads”: mean" in second
    broken = {"result": "measured", **check, "alone": [3, "x"]}
    odd = render_report(replace(plain, facts=replace(plain.facts, checks={"patches": broken})))
    assert "What it took" not in odd
