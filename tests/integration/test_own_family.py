"""A family from another package: two grids a picture, separators, three axes of positions, several pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_doors.family import Layout, PatchGrid
from llava_doors.method import Needs
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.attend.seen import SeenRows
from llava_server.engine import Engine
from llava_server.fit.room import Room
from llava_server.look.reduce import reduced_views
from llava_server.look.seen import Seen
from llava_server.run.batch import BatchItem, BatchRun, layout_of, moved
from llava_server.run.generate import generate
from llava_server.run.replay import replay
from support import toy_family
from support.pictures import scene_bytes
from support.toy_family import ToyGrids

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "model_store" / "llava-shapes"
WIDE, TALL, SQUARE = (scene_bytes(*size, seed=size[0]) for size in ((300, 140), (120, 260), (97, 101)))
OPTIONS = {"max_new_tokens": 4, "rows": "both", "reduction": "none", "layers": "all", "heads": "all"}


def items_of(engine: Engine, *requests: GenerateRequest) -> list[BatchItem]:
    """Requests, prepared as the engine does it."""
    room = Room.of(engine.loaded, 1 << 30)
    prepared = [engine._preparer.finish(engine._preparer.check(request, room)) for request in requests]
    return [one.items[0] for one in prepared]


def maps_of(engine: Engine, item: BatchItem, run: BatchRun, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The answer's maps and shares: [row, layer, head, patch] and [row, layer, head, 4]."""
    last = len(item.prompt.ids) - 1
    positions = range(last, last + len(run.decoded[index].ids))
    layout = layout_of(item, run.decoded[index].pad, positions, engine.loaded.processor.tokenizer.bos_token_id)
    every = torch.ones(len(positions), dtype=torch.bool)
    seen = SeenRows(run.capture, run.keys, index, layout, engine.loaded.device)
    [made] = reduced_views(item.plan.views, seen, every).views
    assert made.shares is not None
    grid = (engine.loaded.facts.layers, engine.loaded.facts.heads)
    return made.values.unflatten(1, grid).numpy(), made.shares.unflatten(1, grid).numpy()


def own_eager(engine: Engine, item: BatchItem, answer: tuple[int, ...]) -> tuple[np.ndarray, torch.Tensor]:
    """The model's own forward of the same tokens, alone: rows [row, layer, head, key] and logits [row, vocabulary]."""
    loaded = engine.loaded
    ids = torch.tensor([(*item.prompt.ids, *answer[:-1])])
    inputs = loaded.family.own_inputs(ids, moved(item.images.inputs, loaded.device, loaded.model.dtype))
    loaded.set_attention("eager")
    try:
        with torch.no_grad():
            output = loaded.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True, use_cache=False, **inputs
            )
    finally:
        loaded.set_attention("llava_gaze_capture")
    first = len(item.prompt.ids) - 1
    rows = torch.stack([layer[0, :, first:] for layer in output.attentions])  # [layer, head, row, key]
    return rows.permute(2, 0, 1, 3).numpy(), output.logits[0, first:]


def test_it_is_listed_without_torch(toy_checkpoint: Path) -> None:
    blocked = "import sys\nfor name in ('torch', 'transformers', 'PIL'): sys.modules[name] = None\n"
    code = blocked + "from llava_doors.door import FAMILIES\nprint(*FAMILIES.known())"
    path = ":".join(map(str, (toy_checkpoint.parent / "site", ROOT / "handler", ROOT / "tests")))
    listed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": path}, timeout=300
    )
    *own, toy = listed.stdout.split()
    assert own == sorted(own)
    assert ("llava" in own, toy) == (True, "toy_grids")


def test_a_model_of_it_is_loaded_and_tests_itself(toy: Engine) -> None:
    assert isinstance(toy.loaded.family, ToyGrids)
    test = toy.loaded.checks["self_test"]
    assert (test["result"], test["prompt_tokens"]) == ("passed", 512)
    assert 0 < test["row_error"] < 1e-5


def test_wrong_positions_are_noticed_at_load(toy_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ToyGrids.positions
    monkeypatch.setattr(ToyGrids, "positions", lambda self, ids, inputs: right(self, ids, inputs)[[0, 2, 1]])
    with pytest.raises(SettingsError, match="self-test: got rows that differ by"):
        Engine.load(toy_checkpoint, device="cpu", dtype="float32")


def test_two_pictures_have_four_grids_whose_tokens_leave_out_separators(toy: Engine) -> None:
    [item] = items_of(toy, GenerateRequest.build([WIDE, TALL], "What differs?", OPTIONS))
    layout, ids = item.images.layout, np.array(item.prompt.ids)
    assert [(grid.image, grid.name, grid.rows, grid.cols) for grid in layout.grids] == [
        (0, "base", 4, 4), (0, "detail", 3, 6), (1, "base", 4, 4), (1, "detail", 6, 3),
    ]  # fmt: skip
    image_id, separator = toy.loaded.family.image_token_id, toy.loaded.family.config.separator_token_id
    assert (ids == separator).sum() == 2
    assert (ids[list(item.prompt.patches)] == image_id).all()
    assert len(set(item.prompt.patches)) == layout.patches == 16 + 18 + 16 + 18
    # The newline after each detail row has a feature and no place.
    assert len(item.prompt.filled) == (ids == image_id).sum() == layout.patches + 3 + 6
    assert item.prompt.rendered.count("<image>") == 2


def test_maps_of_a_mixed_batch_equal_its_own_eager_attention(toy: Engine) -> None:
    requests = [
        GenerateRequest.build([WIDE, TALL], "What differs between these two images?", OPTIONS),
        GenerateRequest.build(SQUARE, "What?", OPTIONS),
    ]
    items = items_of(toy, *requests)
    run = generate(toy.loaded, items)
    assert run.decoded[1].pad > 50
    for index, item in enumerate(items):
        maps, shares = maps_of(toy, item, run, index)
        answer = run.decoded[index].ids
        rows, logits = own_eager(toy, item, answer)
        assert tuple(logits.argmax(-1).tolist()) == answer
        np.testing.assert_allclose(maps, rows[..., list(item.prompt.patches)], atol=3e-6)
        assert maps.max() > 0.1
        text = [i for i in range(1, len(item.prompt.ids)) if i not in set(item.prompt.patches)]
        np.testing.assert_allclose(shares[..., 1], maps.sum(-1), atol=1e-6)
        np.testing.assert_allclose(shares[..., 2], rows[..., text].sum(-1), atol=3e-6)
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)


def test_a_replay_has_the_maps_of_the_answer_even_with_the_image_token_as_a_word(toy: Engine) -> None:
    from dataclasses import replace

    [item] = items_of(toy, GenerateRequest.build([TALL, WIDE], "What differs?", OPTIONS))
    answer = (9, toy.loaded.family.image_token_id, 12, 7)
    run = replay(toy.loaded, [replace(item, answer=answer)])
    stepwise = generate(replace(toy.loaded, eos_ids=()), [item], given=[answer])
    np.testing.assert_allclose(maps_of(toy, item, run, 0)[0], maps_of(toy, item, stepwise, 0)[0], atol=3e-6)


def test_methods_that_run_rows_again_do_so_at_their_positions(toy: Engine) -> None:
    [item] = items_of(toy, GenerateRequest.build([TALL, WIDE], "What differs?", OPTIONS))
    run = generate(toy.loaded, [item])
    answer, last = run.decoded[0].ids, len(item.prompt.ids) - 1
    layout = layout_of(item, 0, range(last, last + len(answer)), toy.loaded.processor.tokenizer.bos_token_id)
    needs = Needs(hidden=(1,), gradients="whole", passes=2)
    seen = Seen(
        run.capture, run.keys, 0, layout, toy.loaded.device, needs, loaded=toy.loaded, asked=item, answer=answer
    )
    _, logits = own_eager(toy, item, answer)
    again = seen.replay("whole").logits[last:].detach()
    np.testing.assert_allclose(again, logits, atol=1e-4)
    passes = seen.forward(seen.embeddings().detach()[None].repeat(2, 1, 1))
    np.testing.assert_allclose(passes.detach(), logits[None].repeat(2, 1, 1), atol=1e-4)
    blank = seen.embeddings().detach()[None].clone()
    blank[:, layout.image] = 0
    assert float((seen.forward(blank).detach() - logits).abs().max()) > 0.05


def found_by_painting(layout_of_size: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Of how many patches, and of all, the rectangle's pixels move that token's feature and no other's on its grid."""
    right = whole = 0
    ground = Image.new("RGB", size, (90, 120, 150))
    layout: Layout = layout_of_size(size)
    filled = [i for i, token in enumerate(layout.expansions[0]) if token == layout.expansions[0][0]]

    def features(picture: Image.Image) -> torch.Tensor:
        seen = [toy_family.patches_of(picture, geometry).flatten(1) for geometry in toy_family.geometries(*size)]
        rows, cols = toy_family.detail_shape(*size)
        detail = torch.cat([seen[1].unflatten(0, (rows, cols)), torch.zeros(rows, 1, 192)], dim=1).flatten(0, 1)
        return torch.cat([seen[0], detail])

    before = features(ground)
    for grid in layout.grids:
        on_grid = [filled.index(token) for token in grid.tokens]
        for place, (x0, y0, x1, y1) in enumerate(grid.geometry.patch_rects().reshape(-1, 4)):
            box = (
                max(0, round(x0 + 2)),
                max(0, round(y0 + 2)),
                min(size[0], round(x1 - 2)),
                min(size[1], round(y1 - 2)),
            )
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            painted = ground.copy()
            painted.paste((250, 20, 20), box)
            moved_most = (features(painted) - before).abs().sum(-1)[on_grid].argmax()
            whole, right = whole + 1, right + (int(moved_most) == place)
    return right, whole


@pytest.mark.parametrize("size", [(300, 140), (97, 101), (120, 260), (211, 203)])
def test_painted_patches_are_found_where_the_layout_says(toy: Engine, size: tuple[int, int]) -> None:
    right, whole = found_by_painting(lambda size: toy.loaded.layout([size]), size)
    assert right == whole > 25


def test_a_wrong_order_of_tokens_and_a_forgotten_newline_are_noticed(toy: Engine) -> None:
    def columns_first(size: tuple[int, int]) -> Layout:
        layout = toy.loaded.layout([size])
        grids = [
            PatchGrid(g.image, g.name, g.geometry, np.array(g.tokens).reshape(g.rows, g.cols).T.ravel().tolist())
            for g in layout.grids
        ]
        return Layout(layout.expansions, tuple(grids))

    def without_newlines(size: tuple[int, int]) -> Layout:
        layout = toy.loaded.layout([size])
        base, detail = layout.grids
        first = detail.tokens[0]
        return Layout(
            layout.expansions,
            (base, PatchGrid(0, "detail", detail.geometry, range(first, first + len(detail.tokens)))),
        )

    for wrong in (columns_first, without_newlines):
        right, whole = found_by_painting(wrong, (300, 140))
        assert right < 0.7 * whole
