"""Blocks made on the device hold the same bytes as those that llava_wire makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llava_server.look import blocks
from llava_wire.codes.quantize import BLOCKS, store


def shared(kind: str, count: int, patches: int) -> np.ndarray:
    """Maps of shares, [map, patch] float32."""
    rng = np.random.default_rng(3)
    maps = {
        "noise": rng.random((count, patches)) ** 6, "sharp": rng.random((count, patches)) ** 90,
        "ties": rng.integers(0, 4, (count, patches)), "even": np.ones((count, patches)),
        "one patch": np.eye(count, patches), "nothing": np.zeros((count, patches)),
    }[kind].astype(np.float64)  # fmt: skip
    return (maps / np.maximum(maps.sum(1, keepdims=True), 1e-9)).astype(np.float32)


@pytest.mark.parametrize("kind", ["noise", "sharp", "ties", "even", "one patch", "nothing"])
@pytest.mark.parametrize("shapes", [[(24, 24)], [(5, 7)], [(1, 1)], [(2, 3), (9, 4), (6, 6)]], ids=str)
def test_the_same_bytes(shapes, kind, monkeypatch):
    patches = sum(rows * cols for rows, cols in shapes)
    monkeypatch.setattr(blocks, "_CHUNK_VALUES", 50 * patches)  # more chunks than one
    maps = shared(kind, 120, patches)
    ours = blocks.stored_in_blocks(torch.from_numpy(maps).reshape(4, 30, patches), (4, 30), shapes)
    theirs = store(maps.reshape(4, 30, patches), BLOCKS, shapes)
    for one, other in (
        (ours.codes, theirs.codes), (ours.scales, theirs.scales), (ours.kept.places, theirs.kept.places),
        (ours.kept.values, theirs.kept.values),
    ):  # fmt: skip
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    assert (ours.error_bound, ours.block_error_bound) == (theirs.error_bound, theirs.block_error_bound)
    assert ours.encoding == theirs.encoding


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_not_stored(wrong):
    maps = torch.rand(3, 64) / 64
    maps[1, 7] = wrong
    assert blocks.stored_in_blocks(maps, (3,), [(8, 8)]) is None


def test_values_below_0_are_refused():
    with pytest.raises(ValueError, match=r"maps: got -0\.25, expected shares of 0 or more"):
        blocks.stored_in_blocks(torch.tensor([[0.5, -0.25]]), (1,), [(1, 2)])


def test_no_maps_at_all():
    assert blocks.stored_in_blocks(torch.zeros(0, 2, 64), (0, 2), [(8, 8)]).codes.shape == (0, 2, 4)
