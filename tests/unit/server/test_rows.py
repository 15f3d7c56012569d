"""Rows and reductions on small numbers that can be checked by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from llava_doors.method import RowBlock
from llava_doors.parts.row_means import AttentionFold, split
from llava_server.ask.plan import ViewPlan
from llava_server.attend import rows as rows_module
from llava_server.attend.rows import RowLayout, attention_rows
from llava_server.look.reduce import finished_maps, to_host
from llava_wire.reduction import REDUCTIONS


def softmax_rows(queries, keys, scaling, layout, groups):
    """The textbook formula, one row at a time, in float64."""
    heads, count = queries.shape[:2]
    result = np.zeros((heads, count, keys.shape[1] - layout.pad))
    for head in range(heads):
        for row in range(count):
            end = int(layout.positions[row]) + 1
            seen = keys[head // groups, layout.pad : layout.pad + end].double().numpy()
            scores = seen @ queries[head, row].double().numpy() * scaling
            weights = np.exp(scores - scores.max())
            result[head, row, :end] = weights / weights.sum()
    return result


@pytest.mark.parametrize("block_values", [1 << 24, 20])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("wanted", [(0, 1, 2, 3), (0, 3), (2,)])
def test_rows_equal_the_textbook_softmax(wanted, kv_heads, block_values, monkeypatch):
    monkeypatch.setitem(rows_module._BLOCK_VALUES, "cpu", block_values)
    torch.manual_seed(0)
    queries, keys = torch.randn(4, 5, 8), torch.randn(kv_heads, 20, 8)
    # 3 padding positions; prompt of 10: bos, text, 4 image tokens from 3, text; then the answer.
    layout = RowLayout(3, 10, True, range(3, 7), torch.tensor([9, 10, 11, 12, 4]))
    expected = softmax_rows(queries, keys, 0.5, layout, 4 // kv_heads)
    image = torch.full((4, 5, 4), torch.nan)
    shares = torch.full((4, 5, 4), torch.nan)
    pieces = 0
    for block in attention_rows(queries, keys, wanted, 0.5, layout):
        found = RowBlock(0, *block, layout)
        image[list(found.heads), found.rows], shares[list(found.heads), found.rows] = found.image, split(found)
        pieces += 1
    image, shares = image[list(wanted)], shares[list(wanted)]
    used = len({head * kv_heads // 4 for head in wanted})
    assert pieces == (1 if block_values > 1000 else 5 * used)
    np.testing.assert_allclose(image.numpy(), expected[list(wanted)][..., 3:7], atol=1e-6)
    whole = expected[list(wanted)]
    parts = [
        whole[..., 0],
        whole[..., 3:7].sum(-1),
        whole[..., 1:3].sum(-1) + whole[..., 7:10].sum(-1),
        whole[..., 10:].sum(-1),
    ]
    np.testing.assert_allclose(shares.numpy(), np.stack(parts, -1), atol=1e-6)


def test_without_a_start_token_its_share_is_zero():
    layout = RowLayout(0, 6, False, range(2, 4), torch.tensor([5]))
    [block] = attention_rows(torch.randn(1, 1, 4), torch.randn(1, 6, 4), (0,), 1.0, layout)
    shares = split(RowBlock(0, *block, layout))
    assert shares[0, 0, 0] == 0
    assert float(shares.sum()) == pytest.approx(1, abs=1e-6)


def test_reductions_are_plain_means():
    torch.manual_seed(1)
    layout = RowLayout(0, 9, True, range(2, 8), torch.tensor([8, 9, 10, 11]))
    weights = torch.rand(2, 3, 4, 12).softmax(-1)  # [layer, head, row, key]
    values = weights[..., 2:8]  # [layer, head, row, patch]
    shares = torch.stack([split(RowBlock(layer, (0, 1, 2), slice(0, 4), weights[layer], layout)) for layer in (0, 1)])
    mean_rows = torch.tensor([True, False, True, True])
    plans = (
        ViewPlan("none", REDUCTIONS["none"], (1, 0), (2, 0)),
        ViewPlan("heads", REDUCTIONS["heads"], (1, 0), (2, 0)),
        ViewPlan("both", REDUCTIONS["layers_heads"], (1, 0), (2, 0)),
        ViewPlan("all", REDUCTIONS["all"], (1, 0), (2, 0)),
        ViewPlan("pairs", REDUCTIONS["none"], (), (), ((1, 1), (0, 2), (1, 0))),
        ViewPlan("pairs mean", REDUCTIONS["layers_heads"], (), (), ((1, 1), (0, 2), (1, 0))),
    )
    seen: Any = SimpleNamespace(layout=layout, device=torch.device("cpu"))
    folds = [AttentionFold(seen, plan) for plan in plans]
    for layer in range(2):
        for part in (slice(0, 3), slice(3, 4)):
            block = RowBlock(layer, (0, 1, 2), part, weights[layer, :, part], layout)
            for fold in folds:
                fold.add(block)
    finished = [finished_maps(plan, fold.finish(), layout, mean_rows) for plan, fold in zip(plans, folds, strict=True)]
    none, heads, both, everything, pairs, pairs_mean = to_host(plans, finished)
    grid = values.numpy()[[1, 0]][:, [2, 0]].transpose(2, 0, 1, 3).reshape(4, 2, 2, 6)
    np.testing.assert_allclose(none.maps, grid, rtol=1e-6)
    np.testing.assert_allclose(heads.maps, grid.mean(2), rtol=1e-6)
    np.testing.assert_allclose(both.maps, grid.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(everything.maps, grid.mean((1, 2))[[0, 2, 3]].mean(0), rtol=1e-6)
    chosen = values.numpy()[[1, 0, 1], [1, 2, 0]].transpose(1, 0, 2).reshape(4, 3, 6)
    np.testing.assert_allclose(pairs.maps, chosen, rtol=1e-6)
    np.testing.assert_allclose(pairs_mean.maps, chosen.mean(1), rtol=1e-6)
    np.testing.assert_allclose(both.shares, shares.numpy()[:, [2, 0]].mean((0, 1)), rtol=1e-6)
    assert everything.shares.shape == (4,)
    assert none.shares.shape == (4, 2, 2, 4)


def test_rows_before_the_image_see_nothing_of_it():
    layout = RowLayout(2, 8, True, range(3, 7), torch.tensor([1, 2]))
    [found] = attention_rows(torch.randn(1, 2, 4), torch.randn(1, 12, 4), (0,), 1.0, layout)
    block = RowBlock(0, *found, layout)
    assert block.image.tolist() == [[[0.0] * 4] * 2]
    np.testing.assert_allclose(split(block).sum(-1), 1, atol=1e-6)


def test_patches_may_lie_anywhere_and_what_is_between_them_is_text():
    torch.manual_seed(3)
    queries, keys = torch.randn(2, 2, 8), torch.randn(1, 16, 8)
    # 2 padding positions; bos, text, two rows of 2 patches with a separator after each, the second row first; text.
    places = [5, 6, 2, 3]
    layout = RowLayout(2, 10, True, places, torch.tensor([9, 11]))
    expected = softmax_rows(queries, keys, 0.5, layout, 2)
    [found] = attention_rows(queries, keys, (0, 1), 0.5, layout)
    block = RowBlock(0, *found, layout)
    np.testing.assert_allclose(block.image.numpy(), expected[..., places], atol=1e-6)
    text = expected[..., [1, 4, 7, 8, 9]].sum(-1)
    parts = [expected[..., 0], expected[..., places].sum(-1), text, expected[..., 10:].sum(-1)]
    np.testing.assert_allclose(split(block).numpy(), np.stack(parts, -1), atol=1e-6)


def test_what_lies_on_separators_is_told_beside_the_shares():
    torch.manual_seed(4)
    layout = RowLayout(0, 9, True, [2, 3, 5, 6], torch.tensor([8, 9]), apart=(4, 7))
    weights = torch.rand(2, 3, 2, 10).softmax(-1)  # [layer, head, row, key]
    plans = [ViewPlan(name, REDUCTIONS[name], (1, 0), (2, 0)) for name in ("none", "layers_heads", "all")]
    folds = [AttentionFold(SimpleNamespace(layout=layout, device=torch.device("cpu")), plan) for plan in plans]
    for layer in range(2):
        for fold in folds:
            fold.add(RowBlock(layer, (0, 1, 2), slice(0, 2), weights[layer], layout))
    every = torch.tensor([True, False])
    finished = [finished_maps(plan, fold.finish(), layout, every) for plan, fold in zip(plans, folds, strict=True)]
    none, mean, whole = to_host(plans, finished)
    apart = weights.numpy()[[1, 0]][:, [2, 0]][..., [4, 7]].sum(-1).transpose(2, 0, 1)  # [row, layer, head]
    np.testing.assert_allclose(none.separators, apart, rtol=1e-6)
    np.testing.assert_allclose(mean.separators, apart.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(whole.separators, apart.mean((1, 2))[0], rtol=1e-6)
    np.testing.assert_allclose(none.shares.sum(-1), 1, atol=1e-6)  # as ever: with those of the prompt
    assert (none.shares[..., 2] > none.separators).all()
