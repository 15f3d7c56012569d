"""Stored maps never stray further from the original than the bound that the record states."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llava_wire.codes.quantize import BLOCKS, ENCODINGS, PRECISIONS, dequantise, quantise, store, written
from llava_wire.quantity import Quantity
from support.adversarial import adversarial_maps, sum_errors

EACH_PATCH = [precision for precision in PRECISIONS if precision != BLOCKS]
"""Those that store a number for each patch; test_blocks.py has the other."""
SHARES = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(0, 2.0**-120, width=32),
    st.sampled_from([0.0, 1.0, 2.0**-149, 2.0**-126, 1 / 255]),
)
MAPS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5), elements=SHARES)


@pytest.mark.parametrize("precision", EACH_PATCH)
@settings(max_examples=200, deadline=None)
@given(maps=MAPS)
def test_the_error_stays_within_the_stated_bound(precision: str, maps: np.ndarray) -> None:
    stored, scales, bound = quantise(maps, precision)
    back = dequantise(stored, scales, written(precision))
    assert back.dtype == np.float32
    assert back.shape == maps.shape
    assert scales.shape == maps.shape[:-2]
    assert float(np.abs(back.astype(np.float64) - maps.astype(np.float64)).max()) <= bound


@settings(max_examples=100, deadline=None)
@given(maps=MAPS)
def test_uint8_uses_one_scale_per_map(maps: np.ndarray) -> None:
    stored, scales, _ = quantise(maps, "uint8")
    peaks = maps.max((-2, -1))
    usual = peaks > 2.0**-110
    assert (stored.max((-2, -1))[usual] == 255).all()
    np.testing.assert_allclose(scales[usual], peaks[usual] / 255**2, rtol=1e-6)


def test_float32_is_exact_and_zeros_stay_zeros() -> None:
    maps = np.random.default_rng(0).random((3, 4, 4), dtype=np.float32)
    stored, scales, bound = quantise(maps, "float32")
    np.testing.assert_array_equal(dequantise(stored, scales, "float32"), maps)
    assert bound == 0.0
    for precision in EACH_PATCH:
        stored, scales, bound = quantise(np.zeros((2, 3, 3), np.float32), precision)
        assert not dequantise(stored, scales, written(precision)).any()
        assert bound < 1e-7


def test_an_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="got 'int4', expected"):
        quantise(np.zeros((1, 1), np.float32), "int4")


def test_sums_peaks_and_blocks_of_a_thousand_adversarial_maps() -> None:
    groups: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
    for kind, heat in adversarial_maps(1000, seed=0):
        groups.setdefault(heat.shape, []).append((kind, heat))
    for shape, group in groups.items():
        maps = np.stack([heat for _, heat in group])
        stored, scales, bound = quantise(maps, "uint8")
        back = dequantise(stored, scales, "sqrt-u8")
        assert float(np.abs(back.astype(np.float64) - maps).max()) <= bound <= 0.032 * float(maps.max())
        for (kind, heat), decoded in zip(group, back, strict=True):
            whole, peak, block = sum_errors(decoded, heat)
            assert whole <= 1e-3, (kind, shape, whole)
            assert peak <= 5e-3, (kind, shape, peak)
            assert block <= 1, (kind, shape, block)


@pytest.mark.parametrize(("bright", "shared"), [(0.3, 0.2), (0.3, 0.4), (0.9, 0.1)])
def test_many_equal_values_beside_a_bright_one_keep_their_sum(bright: float, shared: float) -> None:
    heat = np.full((24, 24), shared / 575, np.float32)
    heat[3, 5] = bright
    stored, scales, _ = quantise(heat, "uint8")
    assert float(dequantise(stored, scales, "sqrt-u8").sum()) == pytest.approx(bright + shared, abs=1e-3)
    # What was written before: each of them rounded alike.
    linear = np.rint(heat / (bright / 255)).astype(np.uint8)
    before = float(dequantise(linear, np.float32(bright / 255), "linear-u8").sum())
    assert abs(before - bright - shared) > 0.05


def test_decoded_maps_give_their_codes_again() -> None:
    for kind, heat in adversarial_maps(240, seed=3):
        stored, scales, _ = quantise(heat, "uint8")
        again, scales_again, _ = quantise(dequantise(stored, scales, "sqrt-u8"), "uint8")
        np.testing.assert_array_equal(again, stored, err_msg=kind)
        np.testing.assert_allclose(scales_again, scales, rtol=1e-6)


def test_maps_are_coded_alike_alone_and_among_others() -> None:
    maps = np.stack([heat for _, heat in adversarial_maps(400, seed=4) if heat.shape == (24, 24)])
    together, scales, _ = quantise(maps, "uint8")
    for heat, codes, scale in zip(maps, together, scales, strict=True):
        alone, own, _ = quantise(heat, "uint8")
        np.testing.assert_array_equal(alone, codes)
        assert own == scale


def test_a_map_of_576_patches_takes_at_most_500_bytes_among_others() -> None:
    kinds: dict[str, list[np.ndarray]] = {}
    for kind, heat in adversarial_maps(1440, seed=5):
        if heat.size == 576:
            kinds.setdefault(kind, []).append(heat.reshape(24, 24))
    for kind, maps in kinds.items():
        stored, _, _ = quantise(np.stack(maps), "uint8")
        assert len(zlib.compress(stored.tobytes(), 6)) + 4 * len(maps) <= 500 * len(maps), kind


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="encoding: got 'log-u8', expected"):
        dequantise(np.zeros((1, 1), np.uint8), np.float32(1), "log-u8")


@pytest.mark.parametrize("side", [10, 12])
def test_a_bright_patch_on_even_ground_keeps_its_sum(side: int) -> None:
    """All other codes round the same way here, and only a few of them may move."""
    peaks = np.linspace(0.3, 0.7, 60)
    maps = np.empty((len(peaks), side, side), np.float32)
    maps[:] = ((1 - peaks) / (side * side - 1))[:, None, None]
    maps[:, side // 2, side // 3] = peaks
    stored, scales, _ = quantise(maps, "uint8")
    sums = dequantise(stored, scales, "sqrt-u8").sum((-1, -2), dtype=np.float64)
    np.testing.assert_allclose(sums, maps.sum((-1, -2), dtype=np.float64), atol=1e-3)


SIGNED, COUNTS = Quantity("contribution", "logit", signed=True, additive=True), Quantity("surprise", "nats")
NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, width=32), st.floats(-(2.0**-120), 2.0**-120, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 3e38, -3e38]),
)  # fmt: skip
ROWS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9), elements=NUMBERS)


@pytest.mark.parametrize("precision", EACH_PATCH)
@pytest.mark.parametrize("quantity", [SIGNED, COUNTS], ids=["signed", "unsigned"])
@settings(max_examples=200, deadline=None)
@given(maps=ROWS)
def test_the_bound_holds_for_other_quantities(precision: str, quantity: Quantity, maps: np.ndarray) -> None:
    if not quantity.signed:
        maps = np.abs(maps)
    if precision == "float16":
        maps = np.clip(maps, -65504, 65504)
    found = store(maps, precision, [(1, maps.shape[-1])], quantity)
    assert found.encoding == {"uint8": "signed-u8" if quantity.signed else "linear-u8"}.get(precision, precision)
    assert quantity.signed is False or ENCODINGS[found.encoding].signed
    back = dequantise(found.codes, found.scales, found.encoding)
    assert np.isfinite(back).all()
    assert float(np.abs(back.astype(np.float64) - maps.astype(np.float64)).max()) <= found.error_bound
    assert (np.sign(back) * np.sign(maps) >= 0).all(), "no value changes its sign"


def test_a_signed_map_uses_both_sides_of_the_middle_and_keeps_zero() -> None:
    maps = np.float32([[-2.0, -1.0, 0.0, 0.5, 2.0], [0, 0, 0, 0, 0]])
    found = store(maps, "uint8", [(1, 5)], SIGNED)
    assert found.codes.tolist() == [[1, 64, 128, 160, 255], [128] * 5]
    np.testing.assert_allclose(found.scales, [2 / 127, 0], rtol=1e-6)
    back = dequantise(found.codes, found.scales, found.encoding)
    np.testing.assert_allclose(back[0, [0, 2, 4]], [-2, 0, 2], rtol=1e-6)
    assert not back[1].any()


@pytest.mark.parametrize(
    ("value", "precision", "quantity", "message"),
    [
        (-0.5, "float32", COUNTS, "'surprise' finite and 0 or more"),
        (-0.5, "uint8", COUNTS, "'surprise' finite and 0 or more"),
        (np.nan, "uint8", SIGNED, "'contribution' finite"),
        (np.inf, "float32", SIGNED, "'contribution' finite"),
        (-1e5, "float16", SIGNED, "got a value of 100000, expected up to 65504"),
    ],
)
def test_values_that_an_encoding_cannot_hold_are_refused(
    value: float, precision: str, quantity: Quantity, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        store(np.float32([[0.5, value]]), precision, [(1, 2)], quantity)


def test_grids_of_one_map_share_its_scale_and_keep_their_sums_by_themselves() -> None:
    rng = np.random.default_rng(1)
    maps = rng.random((7, 64 + 30)).astype(np.float32) ** 4
    maps *= 0.5 / maps.sum(-1, keepdims=True)
    maps[:, 70] = 0.4
    found = store(maps, "uint8", [(8, 8), (5, 6)])
    np.testing.assert_allclose(found.scales, maps.max(-1) / 255**2, rtol=1e-6)
    back = dequantise(found.codes, found.scales, found.encoding)
    for part in (slice(0, 64), slice(64, None)):
        np.testing.assert_allclose(back[:, part].sum(-1), maps[:, part].sum(-1), atol=1e-3)
    assert float(np.abs(back - maps).max()) <= found.error_bound
