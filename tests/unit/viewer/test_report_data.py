"""The data of a report: rows, frames, warnings and metadata agree with the record."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.look import frames
from llava_viewer.look.wording import NBSP
from llava_viewer.pages.assemble import build_report
from llava_wire.geometry import Preprocess
from llava_wire.record import Record
from llava_wire.schema import Query
from support.synthetic import make_record, with_geometry


def pixels(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(PillowImage.open(io.BytesIO(data)))


def facts(record: Record) -> dict[str, str]:
    return {
        f"{group.title}: {fact.label}": fact.value.replace(NBSP, " ")
        for group in build_report(record).groups
        for fact in group.facts
    }


def test_every_token_has_its_own_map_and_no_other() -> None:
    record = make_record(reductions=("layers_heads",))
    report = build_report(record)
    stored = record.views["layers_heads"].on_grid()
    (slot,) = report.views[0].slots
    assert [frame.row_key for frame in slot.frames] == [f"t{t}" for t in range(len(record.tokens))]
    for t, frame in enumerate(slot.frames):
        assert np.array_equal(pixels(frame.uri), stored[t]), f"token {t}"


def test_the_peak_is_the_brightest_patch_in_original_pixels() -> None:
    record = make_record(reductions=("layers_heads",))
    rects = record.geometry.patch_rects()
    maps = record.maps_float()
    for t, frame in enumerate(build_report(record).views[0].slots[0].frames):
        row, col = np.unravel_index(maps[t].argmax(), maps[t].shape)
        assert (row, col) == (t % 8, t % 8)
        assert float(frame.peak_x) == pytest.approx(rects[row, col, 0], rel=1e-3)
        assert float(frame.peak_y) == pytest.approx(rects[row, col, 1], rel=1e-3)
        assert frame.top[0].where == f"{row}, {col}"
        numbers = np.array(frame.numbers.split(" "), np.float32)
        assert numbers[0] == maps[t].max()
        assert np.array_equal(numbers[1:], record.views["layers_heads"].shares[t])


def test_the_shares_fill_the_bar() -> None:
    for frame in build_report(make_record()).views[0].slots[0].frames:
        ends = [float(part.until) for part in frame.segments]
        assert ends == pytest.approx([30, 70, 85, 100])
        assert [part.name for part in frame.segments] == ["b", "i", "p", "a"]


def test_rows_join_words_and_keep_the_pieces() -> None:
    rows = build_report(make_record()).rows
    assert [(row.text, row.spaced) for row in rows[8:10]] == [("sq", True), ("uare", False)]
    assert rows[8].piece == "Ġsq"
    assert rows[-1].special
    assert rows[-1].text == "</s>"


def test_tokens_without_attention_are_listed_but_cannot_be_chosen() -> None:
    record = make_record(reductions=("layers_heads",))
    view = record.views["layers_heads"]
    part = replace(view, stored=view.stored[2:4], scales=view.scales[2:4], shares=view.shares[2:4])
    record = replace(
        record, facts=replace(record.facts, queries=record.facts.queries[2:4]), views={"layers_heads": part}
    )
    report = build_report(record)
    assert [row.key for row in report.rows if row.key] == ["t2", "t3"]
    assert len(report.rows) == len(record.tokens)
    assert report.first_key in ("t2", "t3")


def test_question_rows_come_apart_from_the_answer() -> None:
    record = make_record(reductions=("layers_heads",))
    queries = (*record.queries[:-1], Query("prompt", 1, 1, 0))
    report = build_report(replace(record, facts=replace(record.facts, queries=queries)))
    assert [row.key for row in report.question_rows] == ["q1"]
    assert report.question_rows[0].query == len(queries) - 1
    assert report.views[0].slots[0].frames[-1].row_key == "q1"


def test_a_record_of_question_rows_alone_is_shown() -> None:
    record = make_record(reductions=("layers_heads",), words=("A", " red"))
    queries = tuple(Query("prompt", position, position, 0) for position in range(3))
    report = build_report(replace(record, facts=replace(record.facts, queries=queries)))
    assert report.first_key in ("q0", "q1", "q2")
    assert not any(row.key for row in report.rows)


def test_one_map_for_the_whole_answer_has_no_rows() -> None:
    report = build_report(make_record(reductions=("all",)))
    (panel,) = report.views
    assert not panel.has_rows
    assert [frame.row_key for frame in panel.slots[0].frames] == [""]
    assert "steps 0–10" in panel.reduction


def test_unreduced_axes_become_slots_after_their_mean() -> None:
    record = make_record(reductions=("none",))
    (panel,) = build_report(record).views
    assert [slot.name for slot in panel.slots] == ["mean of 6", "L0 H0", "L0 H1", "L0 H2", "L1 H0", "L1 H1", "L1 H2"]
    assert np.array_equal(pixels(panel.slots[6].frames[3].uri), record.views["none"].on_grid()[3, 1, 2])
    assert any("computed by this report" in note for note in panel.notes)


def test_pairs_are_named_by_layer_and_head() -> None:
    record = make_record(reductions=(), pairs=((1, 2), (0, 0)))
    (panel,) = build_report(record).views
    assert [slot.name for slot in panel.slots[1:]] == ["L1 H2", "L0 H0"]
    assert panel.selection == "L1 H2, L0 H0"


def test_many_maps_go_into_an_atlas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_STATIC_FRAMES", 40)
    record = make_record(reductions=("none",))
    (panel,) = build_report(record).views
    assert [slot.name for slot in panel.slots] == ["mean of 6"]
    assert (panel.layers, panel.heads, panel.pairs) == ("0 1", "0 1 2", "")
    assert panel.atlas
    numbers, *rows = panel.atlas.blocks
    assert (numbers.block_id, rows[3].block_id) == ("n-v0", "a-v0-t3")
    view = record.views["none"]
    found = np.frombuffer(zlib.decompress(base64.b64decode(rows[3].text)), np.uint8).reshape(2, 3, 8, 8)
    assert np.array_equal(found, view.on_grid()[3])
    found = np.frombuffer(zlib.decompress(base64.b64decode(numbers.text)), "<f4").reshape(12, 2, 3, 5)
    assert np.array_equal(found[..., 0], view.maps_float().max((-2, -1)))
    assert np.array_equal(found[..., 1:], view.shares)


def test_maps_in_blocks_go_into_an_atlas_as_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(reductions=("none",), precision="blocks", grid=10)
    (few,) = build_report(record).views
    assert few.atlas is None
    monkeypatch.setattr(frames, "MAX_STATIC_FRAMES", 40)
    (panel,) = build_report(record).views
    assert panel.atlas
    assert panel.atlas.kept == 8
    assert any("8 largest patches are exact" in note for note in panel.notes)
    view = record.view()
    assert view.facts.error_bound < float(panel.error) < 1.1 * view.facts.error_bound
    numbers, *rows = panel.atlas.blocks
    row = np.frombuffer(zlib.decompress(base64.b64decode(rows[3].text)), np.uint8)
    codes, low, high, dim, bright = np.split(row, 6 * np.array([9, 17, 25, 33]))
    np.testing.assert_array_equal(codes.reshape(2, 3, 9), view.stored[3])
    places = (low + 256 * high.astype(int)).reshape(6, 8)
    np.testing.assert_array_equal(places, np.sort(view.kept.places[3].reshape(6, 8)))
    values = (dim + 256 * bright.astype(int)).reshape(6, 8) / 65535
    maps = view.maps_float()[3].reshape(6, 100)
    np.testing.assert_allclose(values, np.take_along_axis(maps, places, 1) / maps.max(1, keepdims=True), atol=1e-5)
    table = zlib.decompress(base64.b64decode(numbers.text))
    peaks, scales = np.frombuffer(table, "<f4", 2 * 72).reshape(2, 12, 2, 3)
    np.testing.assert_allclose(peaks, view.maps_float().max((-2, -1)), rtol=2**-16)
    np.testing.assert_allclose(scales, view.scales, rtol=2**-16)
    shares = np.frombuffer(table, "<u2", offset=8 * 72).reshape(12, 2, 3, 4) / 65535
    np.testing.assert_allclose(shares, view.shares, atol=1e-5)


def test_a_piece_names_its_word() -> None:
    rows = build_report(make_record(reductions=("layers_heads",))).rows
    assert [row.word for row in rows[7:11]] == ["", "square", "square", ""]


def test_a_small_image_share_is_a_warning() -> None:
    frame = build_report(make_record(image_share=0.021)).views[0].slots[0].frames[0]
    assert any(warning.startswith(f"Only 2.1{NBSP}%") for warning in frame.warnings)
    frame = build_report(make_record(image_share=0.4)).views[0].slots[0].frames[0]
    assert not frame.warnings


def test_an_even_map_is_a_warning() -> None:
    record = make_record(reductions=("layers_heads",))
    view = record.views["layers_heads"]
    scales = np.full_like(view.scales, 0.4 / 64 / 255**2)
    even = replace(view, stored=np.full_like(view.stored, 255), scales=scales)
    frame = build_report(replace(record, views={"even": even})).views[0].slots[0].frames[0]
    assert any("nearly even" in warning for warning in frame.warnings)


def test_cropped_away_parts_are_unseen() -> None:
    stage = build_report(make_record(width_px=256, height_px=192)).stage
    assert [(area.x, area.width) for area in stage.unseen] == [("0", "32"), ("224", "32")]
    assert stage.unseen_text == f"25{NBSP}%"
    assert stage.view_box == "0 0 256 192"


def test_padding_widens_the_stage() -> None:
    record = make_record(width_px=256, height_px=192, grid=8)
    geometry = Preprocess(patch_px=12, pad_to_square=True, exact_size=(96, 96)).plan(256, 192)
    stage = build_report(with_geometry(record, geometry)).stage
    assert stage.view_box == "0 -32 256 256"
    assert not stage.unseen
    assert len(stage.padding) == 2


def test_the_metadata_is_complete() -> None:
    found = facts(make_record(pairs=((0, 1),)))
    assert found["Question: Rendered prompt"] == "USER: <image>\nWhat is there? ASSISTANT:"
    assert found["Question: Prompt tokens"] == "70, of which image tokens at positions 3–66"
    assert found["Question: Prompt token ids"] == "1 20 21 4 × 64 22 23 24"
    assert found["Answer: Causal effect"] == "not tested"
    assert found["Answer: Sampling"] == "greedy"
    assert found["Answer: Finish reason"].startswith("stop")
    assert "step 0" in found["Answer: Row rule"].lower()
    assert found["Model: Revision"] == "0" * 40
    assert found["View “pairs”: Layers and heads"] == "L0 H1"
    assert found["View “none”: Stored maps"] == "12 query × 2 layer × 3 head × 8 row × 8 col"
    assert found["View “none”: Largest error of a value"].startswith("±")
    assert found["Image: Preparation"] == "resize to 128 × 96 px; crop to 96 × 96 px at (16, 0)"
    assert found["Image: Seen by the model"].startswith("75 %")
    assert found["This run: total_ms"] == "1.5"
    assert len(found["Image: sha256 of the file"]) == 64


@pytest.mark.parametrize("precision", ["uint8", "float16", "float32"])
def test_every_precision_shows_the_same_picture(precision: str) -> None:
    shown = [
        pixels(build_report(make_record(precision=kind, reductions=("layers_heads",))).views[0].slots[0].frames[4].uri)
        for kind in ("float32", precision)
    ]
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1


def test_a_picture_of_another_size_is_noted() -> None:
    other = io.BytesIO()
    PillowImage.new("RGB", (50, 40)).save(other, "PNG")
    assert any("stretched" in note for note in build_report(make_record(), picture=other.getvalue()).notes)
    assert any("cannot be shown" in note for note in build_report(make_record(), picture=b"no image").notes)
    assert any("no image" in note for note in build_report(make_record(with_picture=False)).notes)
    assert not build_report(make_record()).notes


def test_a_report_opens_on_the_answers_word_with_the_brightest_patch() -> None:
    record = make_record(reductions=("layers_heads",), words=("A", " red", " circle", "."), precision="float32")
    view = record.views["layers_heads"]
    maps = view.maps_float() * 0.1
    maps[2, 3, 4] = 0.3
    maps[3, 1, 1] = 0.9  # the full stop is no word
    brightest = replace(view, stored=maps.reshape(len(maps), -1))
    assert build_report(replace(record, views={"layers_heads": brightest})).first_key == "t2"


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ({"max_new_tokens": 64, "greedy": True}, "greedy, at most 64 tokens"),
        (
            {"max_new_tokens": 9, "greedy": False, "temperature": 0.7, "seed": 3, "sequence": 1, "sequences": 3},
            "at most 9 tokens, answer 2 of 3, temperature 0.7, seed 3",
        ),
        (
            {"max_new_tokens": 9, "greedy": False, "num_beams": 4, "length_penalty": 0.5, "score": -0.00015106},
            "beam search with 4 beams, length penalty 0.5, score -0.0002, at most 9 tokens",
        ),
        ({}, "greedy"),
        ({"greedy": False, "a_new_knob": 2}, "a new knob 2"),
    ],
)
def test_sampling_is_told_in_words(sampling: dict, says: str) -> None:
    record = make_record()
    facts = replace(record.facts, sampling=sampling)
    report = build_report(replace(record, facts=facts))
    answer = next(group for group in report.groups if group.title == "Answer")
    assert next(fact.value for fact in answer.facts if fact.label == "Sampling") == says
