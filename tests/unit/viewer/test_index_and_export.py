"""The index over many runs, and the older toolkit's files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.export import export_overlays, write_text_log
from llava_viewer.pages import index
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import Record, decode, encode
from llava_wire.schema import Annotations
from support.golden import HOSTILE, hostile_record
from support.synthetic import make_record


def test_the_index_lists_runs_by_name_with_links_that_exist(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for stem, prompt in (("b run", "Second?"), ("a", "First?"), ("sub/c#1", "Third?")):
        record = make_record(prompt=prompt, reductions=("layers_heads",))
        (tmp_path / f"{stem}.npz").write_bytes(encode(record))
        if stem != "a":
            (tmp_path / f"{stem}.html").write_text(render_report(record))
    page = write_index(tmp_path, title="All runs").read_text("utf-8")
    assert page.index("First?") < page.index("Second?") < page.index("Third?")
    assert 'href="./b%20run.html"' in page
    assert 'href="./sub/c%231.html"' in page
    assert page.count("no report beside it") == 1
    assert "<b>40\u00a0%</b> on the image" in page


def test_further_answers_of_a_request_are_told_and_found(tmp_path: Path) -> None:
    first, *others = (make_record(words=words, with_picture=False).without_run() for words in (("A",), ("B",), ("C",)))
    (tmp_path / "several.npz").write_bytes(encode(replace(first, alternatives=tuple(others))))
    (tmp_path / "single.npz").write_bytes(encode(first))
    page = write_index(tmp_path).read_text("utf-8")
    told = f"2\u00a0more answers: “{others[0].answer}”; “{others[1].answer}”"
    assert f'<p class="others" dir="auto">{told}</p>' in page
    assert page.count('class="others"') == 1
    searched = re.findall(r'data-search="([^"]*)"', page)
    assert [told.lower() in text for text in searched] == [True, False]


def test_damaged_files_are_named_and_skipped(tmp_path: Path) -> None:
    data = encode(make_record(reductions=("layers_heads",)))
    (tmp_path / "good.npz").write_bytes(data)
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "other.npz").write_bytes(b"hello")
    with pytest.warns(UserWarning, match="was skipped: record: got ") as told:
        page = write_index(tmp_path).read_text("utf-8")
    assert [str(one.message).split(": ")[0] for one in told] == ["cut.npz was skipped", "other.npz was skipped"]
    assert page.count("was skipped") == 2
    assert "1\u00a0run." in page


def test_a_file_name_in_no_encoding_is_listed_and_words_are_found_as_typed(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff.npz")
    (tmp_path / name).write_bytes(encode(make_record(prompt="Welche Straße?", reductions=("layers_heads",))))
    page = write_index(tmp_path).read_text("utf-8")
    assert 'href="./bad%FF.npz"' in page
    assert "welche straße?" in page


def test_the_index_is_inert_and_repeats_itself(tmp_path: Path) -> None:
    (tmp_path / "javascript:alert(1).npz").write_bytes(encode(hostile_record()))
    (tmp_path / "javascript:alert(1).html").write_text("x")
    first = write_index(tmp_path).read_text("utf-8")
    assert HOSTILE not in first
    assert 'href="javascript' not in first
    assert write_index(tmp_path).read_text("utf-8") == first


def test_only_changed_records_are_read_again_and_the_page_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(data: bytes) -> Record:
        read.append(len(data))
        return decode(data)

    monkeypatch.setattr(index, "decode", counted)
    for stem in ("a", "b", "c"):
        (tmp_path / f"{stem}.npz").write_bytes(encode(make_record(prompt=stem, reductions=("layers_heads",))))
    first = write_index(tmp_path).read_text("utf-8")
    assert len(read) == 3
    assert write_index(tmp_path).read_text("utf-8") == first
    assert len(read) == 3
    (tmp_path / "a.npz").unlink()
    (tmp_path / "b.npz").write_bytes(encode(make_record(prompt="another question", reductions=("layers_heads",))))
    changed = write_index(tmp_path).read_text("utf-8")
    assert len(read) == 4
    assert "another question" in changed
    assert 'data-name="a"' not in changed
    assert write_index(tmp_path, fresh=True).read_text("utf-8") == changed
    assert len(read) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: {**cache, "layout": [0, "old"]},
        lambda cache: [],
        lambda cache: {**cache, "entries": {"a.npz": {"stamp": 1}}},
        lambda cache: _with(cache, thumb="javascript:alert(1)"),
        lambda cache: _with(cache, share="nan%"),
        lambda cache: _with(cache, prompt=["x"]),
    ],
)
def test_a_damaged_cache_counts_as_none(tmp_path: Path, damage: Callable[[Any], Any]) -> None:
    (tmp_path / "a.npz").write_bytes(encode(make_record(reductions=("layers_heads",))))
    page = write_index(tmp_path).read_text("utf-8")
    cache = tmp_path / "index.cache.json"
    cache.write_text(json.dumps(damage(json.loads(cache.read_bytes()))))
    assert write_index(tmp_path).read_text("utf-8") == page
    cache.write_bytes(b"{")
    assert write_index(tmp_path).read_text("utf-8") == page


def test_a_hostile_cache_stays_text(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(encode(make_record(reductions=("layers_heads",))))
    write_index(tmp_path)
    cache = tmp_path / "index.cache.json"
    thumb = 'data:image/webp;base64,"><img src=x onerror=alert(1)>'
    cache.write_text(json.dumps(_with(json.loads(cache.read_bytes()), thumb=thumb, prompt=HOSTILE)))
    page = write_index(tmp_path).read_text("utf-8")
    assert HOSTILE not in page
    assert "<img src=x" not in page


def _with(cache: dict[str, Any], **changed: object) -> dict[str, Any]:
    return {**cache, "entries": {name: {**entry, **changed} for name, entry in cache["entries"].items()}}


def test_an_empty_folder_has_an_index(tmp_path: Path) -> None:
    assert "No records here yet" in write_index(tmp_path).read_text("utf-8")


def test_overlays_are_named_by_step_layer_and_head(tmp_path: Path) -> None:
    record = make_record(words=("A", " red"), layers=2, heads=2, pairs=((1, 0),))
    names = {view: [path.name for path in export_overlays(record, tmp_path / view, view=view)] for view in record.views}
    assert names["layers_heads"] == ["step_0.png", "step_1.png", "step_2.png"]
    assert names["heads"][:2] == ["step_0_layer_0.png", "step_0_layer_1.png"]
    assert names["none"][:3] == ["step_0_layer_0_head_0.png", "step_0_layer_0_head_1.png", "step_0_layer_1_head_0.png"]
    assert names["pairs"][0] == "step_0_layer_1_head_0.png"
    assert names["all"] == ["mean.png"]
    assert [path.name for path in export_overlays(record, tmp_path / "first")] == names["layers_heads"]


def test_an_overlay_is_bright_where_the_token_looked(tmp_path: Path) -> None:
    record = make_record(words=("A", " red", " circle"), with_picture=False)
    path = export_overlays(record, tmp_path, alpha=1.0)[2]
    shown = np.asarray(PillowImage.open(path)).astype(int)
    factor = 2  # 192 px are enlarged to at least 336
    x0, y0, x1, y1 = record.geometry.patch_rects()[2, 2] * factor
    bright = (shown == np.array([254, 232, 56])).all(axis=-1)
    ys, xs = np.nonzero(bright)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (x0, y0, x1, y1)
    assert shown.shape[0] > 192 * factor, "a caption stands under the image"


def test_an_unknown_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        export_overlays(make_record(), tmp_path, view="nope")


def test_the_text_log_tells_the_steps(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.txt"
    write_text_log(make_record(pairs=((1, 2),)), path)
    log = path.read_text("utf-8")
    assert "prompt: What is there?" in log
    assert "step -> token:\n  0: 100 'A'\n  1: 101 'Ġred'" in log
    assert "generated text: A red circle, next to a blue square." in log
    assert "output shape: 12 x 2 x 3 x 8 x 8 (query, layer, head, row, col)" in log
    assert "heads: [[1, 2]]" in log
    assert "total_ms: 1.5" in log


def test_the_index_marks_right_and_wrong_answers_and_says_what_needs_the_image(tmp_path: Path) -> None:
    plain = make_record(words=("A", " red"), reductions=("layers_heads",))
    checks = {"image": {"result": "measured", "needing": 1, "of": 2, "nats": 1.0}}
    for name, right in (("good", True), ("bad", False)):
        said = Annotations(expected="<b>blue</b>", rule="exact", right=right)
        judged = replace(plain, facts=replace(plain.facts, annotations=said, checks=checks))
        (tmp_path / f"{name}.npz").write_bytes(encode(judged))
    (tmp_path / "unjudged.npz").write_bytes(encode(plain))
    page = write_index(tmp_path).read_text("utf-8").replace("\xa0", " ")
    assert '<b class="right">right</b> · 1 of 2 tokens needs the image' in page
    assert '<b class="wrong">wrong</b>; expected “<bdi>&lt;b&gt;blue&lt;/b&gt;</bdi>” · 1 of 2 tokens' in page
    assert page.count('class="right"') == page.count('class="wrong"') == 1
