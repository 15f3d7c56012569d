"""The seeded record of every head, and what the benchmark of precisions says of ways of storing it."""

from __future__ import annotations

import numpy as np

from bench import precisions
from bench.parts.all_heads import all_maps, record_of
from llava_wire import decode, encode
from llava_wire.quantity import ATTENTION

SMALL = {"tokens": 9, "layers": 3, "heads": 4, "side": 12}


def test_the_record_is_made_from_its_seed_alone():
    maps, shares = all_maps(**SMALL)
    assert maps.shape == (9, 3, 4, 144)
    np.testing.assert_array_equal(maps, all_maps(**SMALL)[0])
    assert not np.array_equal(maps, all_maps(**SMALL, seed=2)[0])
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(maps.sum(-1), shares[..., 1], atol=1e-5)
    assert (shares[0, ..., 3] == 0).all(), "the first token sees no answer"
    # Sinks and heavy tails: some patch of nearly every map is far above the even spread.
    assert np.median(maps.max(-1) * 144 / shares[..., 1]) > 5
    record = record_of(maps, shares, "blocks")
    assert encode(decode(encode(record))) == encode(record)
    assert record.view().lead == (9, 3, 4)


def test_ways_of_storing_are_told_apart():
    maps = all_maps(**SMALL)[0].reshape(-1, 144)
    found = {name: precisions.measure(maps, precision, quantity) for name, precision, quantity in precisions.WAYS}
    blocks, whole = found["blocks (blocks-u8)"], found["uint8 (sqrt-u8)"]
    assert blocks.bytes_per_map < 0.75 * whole.bytes_per_map < found["float32"].bytes_per_map
    assert blocks.worst_of_block <= 1e-3
    assert found["float32"].worst_of_peak == 0 < whole.worst_of_peak < blocks.worst_of_peak
    exact = precisions.measure(maps, "float32", ATTENTION)
    assert (exact.worst_of_block, exact.worst_of_sum) == (0, 0)
