"""What a family must show of its grids with a tiny checkpoint: how many tokens, which pixels, and where patches lie.

Flow: sizes of pictures -> the family's layout and transformers' processor; pictures with some patches painted -> which
features move.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from llava_doors.family import Layout, PatchGrid
from support.family_proofs import Proof

Size = tuple[int, int]
Parts = Sequence[tuple[float, float]]
"""Parts of a patch's side, from 0 to 1."""

ODD_SIZES: tuple[Size, ...] = ((1000, 700), (640, 1480), (1536, 512), (2011, 1499), (900, 900), (333, 257))
"""Where patches are painted."""
TOWERS = ("vision_tower", "visual", "vision_model")
"""What models call theirs."""
RESIDUAL = ("out_proj", "fc2", "attn.proj", "mlp.down_proj", "attention.o_proj", "feed_forward.down_proj")
"""What ends the residual branches of the layers of CLIP, SigLIP, Qwen's and Pixtral's tower."""


def sizes(count: int, seed: int = 5, most: int = 3000) -> list[Size]:
    """Random sizes of pictures up to so many px a side, small ones and shapes up to 16:1 among them."""
    rng = random.Random(seed)
    return [(round(most ** rng.uniform(0.66, 1)), round(most ** rng.uniform(0.66, 1))) for _ in range(count)]


def check_counts(proof: Proof, some: Sequence[Size], counts: Sequence[int] | None = None) -> None:
    """Each size takes as many tokens as the processor counts, and no token is two patches.

    Args:
        counts: the processor's tokens of each size; None asks its own counter.
    """
    if counts is None:
        turned = [(height, width) for width, height in some]
        counts = proof.processor._get_num_multimodal_tokens(image_sizes=turned).num_image_tokens
    for size, count in zip(some, counts, strict=True):
        layout = proof.engine.loaded.layout([size])
        assert layout.tokens == count, size
        named = [token for grid in layout.grids for token in grid.tokens]
        assert len(set(named)) == len(named) == sum(grid.rows * grid.cols for grid in layout.grids)
        assert max(named) < count


def counted(proof: Proof, size: Size) -> int:
    """How many image tokens the processor writes for a picture of a size, which it opens."""
    ids = proof.processor(text=[proof.image_text], images=[Image.new("RGB", size)], return_tensors="pt")["input_ids"]
    return int((ids == proof.eager.config.image_token_id).sum())


def check_pixels(proof: Proof, pictures: Sequence[Image.Image]) -> None:
    """What the family makes of pictures is, bit for bit, what the processor makes."""
    loaded = proof.engine.loaded
    theirs = proof.processor(text=[proof.image_text * len(pictures)], images=[[*pictures]], return_tensors="pt")
    ours = loaded.family.inputs(loaded.processor, pictures)
    assert ours.keys() == theirs.keys() - {"input_ids", "attention_mask", "mm_token_type_ids"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@contextmanager
def local_tower(model: Any) -> Iterator[None]:
    """A vision tower in which each token depends on its own pixels alone, because its layers add nothing."""
    [tower] = [tower for name, tower in model.model.named_children() if name in TOWERS]
    ends = [(name, weight) for name, weight in tower.named_parameters()]
    ends = [(name, weight) for name, weight in ends if any(f".{one}." in f".{name}" for one in RESIDUAL)]
    kept = [weight.clone() for _, weight in ends]
    with torch.no_grad():
        for _, weight in ends:
            weight.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for (_, weight), value in zip(ends, kept, strict=True):
                weight.copy_(value)


def painted(
    proof: Proof,
    some: Sequence[Size],
    layout_of: Callable[[Size], Layout] | None = None,
    rounds: int = 2,
    parts: Parts = ((0.1, 0.5), (0.5, 0.9)),
) -> tuple[int, int]:
    """Of how many painted patches the features moved most, and of how many patches all.

    Patches that do not touch are painted together: as many features of their grid as were painted must move more than
    all others, and be theirs.

    Args:
        some: sizes of pictures.
        layout_of: what says where patches lie; None takes the family's.
        rounds: pictures painted per grid.
        parts: of which a patch is painted one, along each side.
    """
    right = whole = 0
    layout_of = layout_of or (lambda size: proof.engine.loaded.layout([size]))
    with local_tower(proof.engine.loaded.model):
        for number, size in enumerate(some):
            ground = Image.new("RGB", size, (90, 120, 150))
            before, layout = features(proof, ground), layout_of(size)
            filled = [i for i, one in enumerate(layout.expansions[0]) if one == proof.eager.config.image_token_id]
            order = {token: i for i, token in enumerate(filled)}
            for grid in layout.grids:
                for seed in range(rounds):
                    boxes = _boxes(grid, random.Random(100 * number + seed), parts)
                    picture = ground.copy()
                    for box in boxes.values():
                        picture.paste((250, 20, 20), box)
                    moved = (features(proof, picture) - before).abs().sum(-1)
                    on_grid = moved[[order[token] for token in grid.tokens]]
                    most = set(on_grid.topk(len(boxes)).indices.tolist())
                    right, whole = right + len(most & boxes.keys()), whole + len(boxes)
    return right, whole


@torch.no_grad()
def features(proof: Proof, picture: Image.Image) -> torch.Tensor:
    """[token, width] of one picture."""
    loaded = proof.engine.loaded
    found: torch.Tensor = loaded.family.features(loaded.model, loaded.family.inputs(loaded.processor, [picture]))
    return found


def _boxes(grid: PatchGrid, rng: random.Random, parts: Parts) -> dict[int, tuple[int, int, int, int]]:
    """Some patches that do not touch -> a box in one corner of each on the picture, px."""
    rects = grid.geometry.patch_rects()  # [row, col, 4]
    width, height = grid.geometry.width_px, grid.geometry.height_px
    found = {}
    for row in range(rng.randrange(3), grid.rows, 3):
        for col in range(rng.randrange(3), grid.cols, 3):
            x0, y0, x1, y1 = rects[row, col]
            if rng.random() < 0.5 or x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                continue
            (left, right), (top, bottom) = _part(x0, x1, rng.choice(parts)), _part(y0, y1, rng.choice(parts))
            if right > left and bottom > top:
                found[row * grid.cols + col] = (left, top, right, bottom)
    return found


def _part(start: float, end: float, part: tuple[float, float]) -> tuple[int, int]:
    """A part of an interval, in whole px inside it."""
    first, last = part
    return math.ceil(start + first * (end - start)), math.floor(start + last * (end - start))
