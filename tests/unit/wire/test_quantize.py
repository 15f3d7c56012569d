"""Stored maps never stray further from the original than the bound that the record states."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llava_wire.codes.quantize import ENCODINGS, PRECISIONS, dequantise, quantise
from support.adversarial import adversarial_maps, sum_errors

SHARES = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(0, 2.0**-120, width=32),
    st.sampled_from([0.0, 1.0, 2.0**-149, 2.0**-126, 1 / 255]),
)
MAPS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5), elements=SHARES)


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=200, deadline=None)
@given(maps=MAPS)
def test_the_error_stays_within_the_stated_bound(precision: str, maps: np.ndarray) -> None:
    stored, scales, bound = quantise(maps, precision)
    back = dequantise(stored, scales, ENCODINGS[precision])
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
    for precision in PRECISIONS:
        stored, scales, bound = quantise(np.zeros((2, 3, 3), np.float32), precision)
        assert not dequantise(stored, scales, ENCODINGS[precision]).any()
        assert bound < 1e-7


def test_an_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="got 'int4', allowed"):
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
    with pytest.raises(ValueError, match="encoding: got 'log-u8', allowed"):
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
