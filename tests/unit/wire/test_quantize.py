"""Stored maps never stray further from the original than the bound that the record states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llava_wire.quantize import PRECISIONS, dequantise, quantise

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
    back = dequantise(stored, scales)
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
    np.testing.assert_allclose(scales[usual], peaks[usual] / 255, rtol=1e-6)


def test_float32_is_exact_and_zeros_stay_zeros() -> None:
    maps = np.random.default_rng(0).random((3, 4, 4), dtype=np.float32)
    stored, scales, bound = quantise(maps, "float32")
    np.testing.assert_array_equal(dequantise(stored, scales), maps)
    assert bound == 0.0
    for precision in PRECISIONS:
        stored, scales, bound = quantise(np.zeros((2, 3, 3), np.float32), precision)
        assert not dequantise(stored, scales).any()
        assert bound < 1e-7


def test_an_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="got 'int4', allowed"):
        quantise(np.zeros((1, 1), np.float32), "int4")
