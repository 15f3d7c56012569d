"""Maps in blocks: the largest patches exact, sums of blocks and grids within bounds, files that break the rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_wire import Record, RecordError, decode, encode, limits
from llava_wire.codes.blocks import BLOCK, BLOCK_ERROR, KEPT, MOST_PATCHES, plots_of
from llava_wire.codes.quantize import BLOCKS, Stored, dequantise, map_bytes, most_map_bytes, restored, store, written
from llava_wire.quantity import Quantity
from llava_wire.view import View
from support.archives import members_of, npy, packed
from support.synthetic import make_record

KEPT_FILE = Path(__file__).parents[2] / "data" / "records" / "v2" / "blocks.npz"
V1_FILE = KEPT_FILE.parents[1] / "v1" / "sqrt-u8-four-reductions.npz"
SHAPES = [((24, 24),), ((8, 8),), ((5, 7),), ((1, 1),), ((2, 3), (9, 4), (1, 30))]
SIGNED = Quantity("contribution", "logit", signed=True, additive=True)


def spread(shapes: tuple[tuple[int, int], ...], power: float, seed: int, count: int = 40) -> np.ndarray:
    """Maps of shares, [map, patch]: the larger the power, the fewer patches have most of them."""
    rng = np.random.default_rng(seed)
    maps = rng.random((count, sum(rows * cols for rows, cols in shapes))) ** power
    return (maps / maps.sum(-1, keepdims=True) * rng.random((count, 1))).astype(np.float32)


def block_sums(maps: np.ndarray, shapes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The sum of every block in float64, [map, block]."""
    sums = []
    for plot in plots_of(shapes):
        grid = maps[:, plot.patches].reshape(-1, plot.rows, plot.cols).astype(np.float64)
        sums += [
            grid[:, row : row + BLOCK, col : col + BLOCK].sum((1, 2))
            for row in range(0, plot.rows, BLOCK)
            for col in range(0, plot.cols, BLOCK)
        ]
    return np.stack(sums, axis=1)


@settings(max_examples=40, deadline=None)
@given(shapes=st.sampled_from(SHAPES), power=st.sampled_from([0.0, 1.0, 4.0, 12.0, 80.0]), seed=st.integers(0, 999))
def test_bounds_hold_and_the_largest_patches_are_exact(shapes, power, seed):
    maps = spread(shapes, power, seed)
    found = store(maps, BLOCKS, shapes)
    shown = restored(found, shapes)
    assert found.encoding == written(BLOCKS) == "blocks-u8"
    assert np.abs(shown - maps).max() <= found.error_bound
    off = np.abs(block_sums(shown, shapes) - block_sums(maps, shapes))
    assert off.max() <= found.block_error_bound <= BLOCK_ERROR
    for plot in plots_of(shapes):
        own, theirs = shown[:, plot.patches], maps[:, plot.patches]
        order = np.argsort(-theirs, axis=1, kind="stable")[:, :KEPT]
        np.testing.assert_array_equal(found.kept.places[:, plot.kept], order)
        np.testing.assert_array_equal(np.take_along_axis(own, order, axis=1), np.take_along_axis(theirs, order, axis=1))
        np.testing.assert_array_equal(own.argmax(1), theirs.argmax(1))
        total = np.abs(own.sum(1, dtype=np.float64) - theirs.sum(1, dtype=np.float64))
        assert (total <= found.scales / 2 + found.block_error_bound / 2 + 1e-6).all()
    for number, plot in enumerate(plots_of(shapes)):
        np.testing.assert_array_equal(restored(found, shapes, number), shown[:, plot.patches])


def test_what_is_left_of_one_block_may_be_a_half_and_is_still_right():
    maps = np.zeros((2, 24, 24), np.float32)
    maps[0, 4:8, 8:12] = 1 / 16
    maps[1, 4:8, 8:12] = np.linspace(0.05, 0.06, 16).reshape(4, 4)
    maps[1, 20, 20] = 0.1
    maps = maps.reshape(2, -1)
    found = store(maps, BLOCKS, [(24, 24)])
    assert found.scales[0] * 255 == pytest.approx(0.5)
    assert np.abs(block_sums(restored(found, [(24, 24)]), ((24, 24),)) - block_sums(maps, ((24, 24),))).max() <= 1e-3
    assert restored(found, [(24, 24)])[0].reshape(24, 24)[4:8, 8:12] == pytest.approx(1 / 16)


def test_no_block_is_off_by_more_than_allowed_to_make_the_sum_right():
    # Remainders of .3 in every block: nearest codes would leave the sum 9 steps short, right ones would round far up.
    left = np.full(36, 100.3)
    left[0] = 255
    maps = np.zeros((1, 24, 24))
    maps[0, ::4, ::4] = (left * (0.5 / 255)).reshape(6, 6) / 6
    maps[0, 1::4, ::4] = maps[0, ::4, ::4]
    values = (maps.reshape(1, -1) / maps.sum()).astype(np.float32)
    found = store(values, BLOCKS, [(24, 24)])
    assert found.block_error_bound <= BLOCK_ERROR
    shown = restored(found, [(24, 24)])
    assert shown.sum(dtype=np.float64) == pytest.approx(values.sum(dtype=np.float64), abs=1e-3)


def test_flat_and_empty_maps():
    even = np.full((1, 576), 1 / 576, np.float32)
    shown = restored(store(even, BLOCKS, [(24, 24)]), [(24, 24)])
    assert shown.max() == even.max(), "rounding lifts no patch over the brightest"
    assert shown.argmax() == 0
    np.testing.assert_allclose(shown, even, rtol=3e-3)
    nothing = store(np.zeros((2, 3, 42), np.float32), BLOCKS, [(6, 7)])
    assert (nothing.error_bound, nothing.block_error_bound) == (0.0, 0.0)
    assert not restored(nothing, [(6, 7)]).any()
    tiny = np.full((1, 64), 2.0**-149, np.float32)
    assert np.isfinite(restored(store(tiny, BLOCKS, [(8, 8)]), [(8, 8)])).all()
    assert restored(store(-np.zeros((1, 64), np.float32), BLOCKS, [(8, 8)]), [(8, 8)]).sum() == 0
    none = store(np.zeros((0, 64), np.float32), BLOCKS, [(8, 8)])
    assert restored(none, [(8, 8)]).shape == (0, 64)


def test_a_map_alone_is_stored_as_in_company():
    maps = spread(SHAPES[4], 5, 1)
    together = store(maps, BLOCKS, SHAPES[4])
    for i in (0, 17, 39):
        alone = store(maps[i], BLOCKS, SHAPES[4])
        assert alone.codes.tobytes() == together.codes[i].tobytes()
        assert alone.kept.places.tobytes() == together.kept.places[i].tobytes()


def test_what_blocks_do_not_hold():
    with pytest.raises(ValueError, match="got 'blocks' for 'contribution', expected shares"):
        store(np.zeros((1, 4), np.float32), BLOCKS, [(2, 2)], SIGNED)
    with pytest.raises(ValueError, match=f"a grid of {257 * 256} patches, expected {MOST_PATCHES}"):
        store(np.zeros((1, 257 * 256), np.float32), BLOCKS, [(257, 256)])
    with pytest.raises(ValueError, match="0 or more"):
        store(np.float32([[0.5, -0.1]]), BLOCKS, [(1, 2)])
    with pytest.raises(ValueError, match="takes restored"):
        dequantise(np.zeros((1, 1), np.uint8), np.float32([1]), "blocks-u8")


def test_bytes_of_a_map():
    assert map_bytes(BLOCKS, [(24, 24)]) == 36 + 8 * 6
    assert map_bytes(BLOCKS, [(24, 24), (5, 3), (1, 2)]) == 36 + 48 + 2 + 48 + 1 + 12
    assert map_bytes("uint8", [(24, 24)]) == 576
    assert most_map_bytes(BLOCKS, 576) >= map_bytes(BLOCKS, [(24, 24)])
    assert most_map_bytes("another", 576) == 4 * 576


def test_a_record_in_blocks_comes_back_and_is_small():
    sizes = {}
    for precision in ("uint8", BLOCKS):
        record = make_record(reductions=("none",), grid=24, patch_px=14, layers=4, heads=4, precision=precision)
        record = replace(record, picture=None)
        sizes[precision] = len(encode(record))
    back = decode(encode(record))
    view, again = record.view(), back.view()
    assert again.facts == view.facts
    np.testing.assert_array_equal(again.maps_float(), view.maps_float())
    assert view.sizes[-2:] == (("row", 24), ("col", 24))
    assert view.nbytes == view.scales.size * (84 + 4 + 16)
    assert encode(back) == encode(record)
    assert sizes[BLOCKS] < sizes["uint8"] / 2.5
    exact = make_record(reductions=("none",), grid=24, patch_px=14, layers=4, heads=4, precision="float32")
    assert back.map(3, layer=1, head=2).max() == exact.map(3, layer=1, head=2).max()
    np.testing.assert_array_equal(view.at(3).maps_float(), view.maps_float()[3])
    with pytest.raises(ValueError, match="stored in blocks"):
        view.on_grid()


def test_one_of_several_grids():
    view = decode(KEPT_FILE.read_bytes()).view()
    whole = view.patches_float()
    start = 0
    for number, grid in enumerate(view.grids):
        maps = view.maps_float(number).reshape(*view.lead, -1)
        np.testing.assert_array_equal(maps, whole[..., start : start + grid.patches])
        part = view.part(number)
        np.testing.assert_array_equal(part.patches_float(), maps)
        assert part.patches == grid.patches
        start += grid.patches


def first(members: dict[str, bytes], name: str, values: dict[tuple[int, ...], float]) -> bytes:
    """A record with some numbers of the first map changed."""
    kept = decode(packed(members)).view()
    array = {"maps": kept.stored, "places": kept.kept.places, "largest": kept.kept.values, "scales": kept.scales}[name]
    array = array.copy()
    for place, own in values.items():
        array[(0, 0, 0, *place)] = own
    return packed({**members, f"views/0/{name}.npy": npy(array)})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("places", {(0,): 24}, "views/0/places.npy: got 24, expected 0 to 23"),
        ("places", {(8,): 9}, "views/0/places.npy: got 9, expected 0 to 8"),
        ("places", {(0,): 3, (1,): 3}, "views/0/places.npy: got a patch twice"),
        ("largest", {(0,): 1e-9}, "views/0/largest.npy: got a patch above the one before it"),
        ("largest", {(0,): 1.1}, "views/0/largest.npy: got 1.1, expected 0 to 1.001"),
        ("largest", {(0,): np.nan}, "views/0/largest.npy: got nan"),
        ("largest", {(7,): -0.5}, "views/0/largest.npy: got -0.5"),
        ("scales", {(): 0.5}, "views/0/scales.npy: got 0.5, expected 0 to 0.0039"),
    ],
)
def test_numbers_that_no_writer_makes(name, values, message):
    members = members_of(KEPT_FILE.read_bytes())
    with pytest.raises(RecordError, match=message) as caught:
        decode(first(members, name, values))
    assert caught.value.reason == "invalid"


def test_version_1_has_no_blocks():
    members = members_of(V1_FILE.read_bytes())
    document = json.loads(members["record.json"])
    document["views"][0].update(precision="blocks", encoding="blocks-u8")
    with pytest.raises(RecordError, match="precision: got 'blocks', expected one of version 1"):
        decode(packed({**members, "record.json": json.dumps(document).encode()}))


def test_nothing_is_left_of_a_block_whose_patches_are_all_kept():
    record = make_record(reductions=("none",), grid=2, precision=BLOCKS, words=("A",))
    members = members_of(encode(record))
    codes = record.view().stored.copy()
    codes[..., 0] = 1
    with pytest.raises(RecordError, match="more than 0 left of a block"):
        decode(packed({**members, "views/0/maps.npy": npy(codes)}))


@pytest.mark.parametrize("name", ["places", "largest"])
def test_a_record_without_its_largest_patches(name):
    members = members_of(KEPT_FILE.read_bytes())
    del members[f"views/0/{name}.npy"]
    with pytest.raises(RecordError, match=f"views/0/{name}.npy: got no such member"):
        decode(packed(members))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "sqrt-u8"}, "unsupported_version"),
        ({"precision": "uint8"}, "unsupported_version"),
        ({"precision": "uint8", "encoding": "linear-u8"}, "invalid"),
        ({"quantity": {"name": "c", "unit": "logit", "signed": False, "additive": True}}, "unsupported_version"),
        ({"block_error_bound": "small"}, "invalid"),
    ],
)
def test_facts_that_are_not_those_of_blocks(change, reason):
    members = members_of(KEPT_FILE.read_bytes())
    document = json.loads(members["record.json"])
    document["views"][0].update(change)
    with pytest.raises(RecordError) as caught:
        decode(packed({**members, "record.json": json.dumps(document).encode()}))
    assert caught.value.reason == reason


def test_a_small_file_stands_for_few_values(monkeypatch):
    count = 4000
    record = make_record(reductions=("layers_heads",), grid=24, patch_px=14, words=("A",), with_picture=False)
    facts = replace(record.view().facts, precision=BLOCKS, axes=("query", "layer", "patch"), reduction="heads")
    maps = np.zeros((2, count, 576), np.float32)
    shares = np.broadcast_to(np.float32([0.5, 0.0, 0.25, 0.25]), (2, count, 4))
    wide = replace(facts, layers=tuple(range(count)), heads=(0,))
    view = View.of(wide, maps, shares, record.grids)
    model = replace(record.facts.model, layers=4096, heads=1)
    data = encode(Record(replace(record.facts, model=model), {wide.name: view}))
    assert decode(data).view().patches == 576
    monkeypatch.setattr(limits, "ALWAYS_INFLATED_BYTES", 2 * count * 104 + (1 << 18))
    monkeypatch.setattr(limits, "MAX_INFLATION", 0)
    with pytest.raises(RecordError, match="values in blocks, expected") as caught:
        decode(data)
    assert caught.value.reason == "too_large"


def test_what_is_stored_is_what_view_of_takes():
    record = make_record(reductions=("none",), grid=8, precision=BLOCKS)
    view, exact = record.view(), make_record(reductions=("none",), grid=8, precision="float32").view()
    maps = exact.patches_float()
    stored = store(maps, BLOCKS, [(8, 8)])
    assert isinstance(stored, Stored)
    again = View.of(replace(view.facts, error_bound=0.0), stored, view.shares, view.grids)
    assert again.facts == view.facts
    np.testing.assert_array_equal(again.maps_float(), view.maps_float())


@pytest.mark.parametrize("power", [1.0, 4.0, 12.0])
def test_an_image_of_7371_tokens_is_pooled_and_its_error_is_stated(power):
    """LLaVA-OneVision's 27 x 27 patches, and 81 x 81 with a newline behind each row: a twelfth of the bytes."""
    shapes = ((27, 27), (81, 81))
    assert 27 * 27 + 81 * (81 + 1) == 7371
    maps = spread(shapes, power, 5, 12)
    found, whole = store(maps, BLOCKS, shapes), store(maps, "uint8", shapes)
    assert found.kept is not None
    assert found.codes.shape == (12, 7 * 7 + 21 * 21)
    held = sum(array.nbytes for array in (found.codes, found.scales, found.kept.places, found.kept.values)) / len(maps)
    assert held == 590 < (whole.codes.nbytes + whole.scales.nbytes) / len(maps) / 12
    shown = restored(found, shapes)
    off = np.abs(block_sums(shown, shapes) - block_sums(maps, shapes)).max()
    assert off <= found.block_error_bound <= BLOCK_ERROR
    worst = np.abs(shown - maps).max()
    assert worst <= found.error_bound <= 1.01 * worst + 1e-7
    for plot in plots_of(shapes):
        own, theirs = shown[:, plot.patches], maps[:, plot.patches]
        np.testing.assert_allclose(own.sum(1), theirs.sum(1), atol=1e-3)
        np.testing.assert_array_equal(own.max(1), theirs.max(1))
