"""Accuracy by image share: groups of equally many answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava_viewer.data.items import Item
from llava_viewer.evaluation.result import evaluated
from llava_viewer.evaluation.scores import Wanted
from llava_wire import encode
from support.runs import Made, data_of, worked
from support.synthetic import make_record


@pytest.mark.parametrize(("count", "sizes"), [(60, [12] * 5), (62, [13, 12, 13, 12, 12]), (11, [6, 5])])
def test_groups_are_of_one_size_where_shares_differ(tmp_path: Path, count: int, sizes: list[int]) -> None:
    data = data_of(tmp_path / "data", count)

    def shares(item: Item) -> bytes:
        record = make_record(
            width_px=64, height_px=48, grid=4, patch_px=8, words=(" a", " red", " circle"), prompt=item.prompt,
            reductions=("layers_heads",), seed=item.n, with_picture=False, image_share=0.1 + 0.01 * item.n,
        )  # fmt: skip
        return encode(record)

    worked(tmp_path / "out", data, Made(data.parent, before=shares))
    [found] = evaluated(Wanted(tmp_path / "out"), "contains").by_share
    assert [part.accuracy.n for part in found.bins] == sizes
    assert all(one.high < other.low for one, other in zip(found.bins, found.bins[1:], strict=False))
