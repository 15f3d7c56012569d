"""Records made without a model: known attention on a known picture, for the tests of the wire format and the viewer.

Flow: a seed and a size -> `Facts` + `Geometry` + arrays -> `Record`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image as PillowImage

from llava_wire.codes.quantize import written
from llava_wire.geometry import Geometry, Preprocess
from llava_wire.grids import Grid
from llava_wire.record import Record
from llava_wire.schema import Candidate, Facts, Image, Model, Prompt, Query, Token, ViewFacts
from llava_wire.view import View

WORDS = ("A", " red", " circle", ",", " next", " to", " a", " blue", " sq", "uare", ".")


def make_picture(width_px: int, height_px: int, seed: int = 0) -> PillowImage.Image:
    """A noisy gradient of the given size, RGB."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 215, width_px)[None, :, None] * np.linspace(0.6, 1.0, height_px)[:, None, None]
    pixels = ramp + rng.normal(0, 12, (height_px, width_px, 3)) + np.array([0, 20, 40])
    return PillowImage.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def make_record(
    *,
    width_px: int = 256,
    height_px: int = 192,
    grid: int = 8,
    patch_px: int = 12,
    layers: int = 2,
    heads: int = 3,
    words: Sequence[str] = WORDS,
    prompt: str = "What is there?",
    precision: str = "uint8",
    reductions: Sequence[str] = ("layers_heads", "none", "heads", "all"),
    pairs: Sequence[tuple[int, int]] = (),
    image_share: float = 0.4,
    with_picture: bool = True,
    seed: int = 0,
) -> Record:
    """A record whose maps are noise with one bright patch per token at (t mod rows, t mod cols).

    One view per reduction, named like it; with `pairs`, one more named "pairs" with a layer_head axis.
    """
    rng = np.random.default_rng(seed)
    picture = make_picture(width_px, height_px, seed)
    side = grid * patch_px
    geometry = Preprocess(patch_px=patch_px, shortest_edge=side, crop=(side, side)).plan(width_px, height_px)
    count = len(words) + 1
    attention = rng.random((count, layers, heads, grid, grid)).astype(np.float32) ** 4
    for t in range(count):
        attention[t, :, :, t % grid, t % grid] += 6
    attention *= image_share / attention.sum((-2, -1), keepdims=True)
    rest = 1 - image_share
    shares = np.empty((count, layers, heads, 4), np.float32)
    shares[...] = np.array([rest / 2, image_share, rest / 4, rest / 4], np.float32)
    start = 3
    grids = (geometry.grid(((start, grid * grid),)),)
    views = {}
    for reduction in reductions:
        maps, split, axes = _reduce(attention, shares, reduction)
        views[reduction] = _view(reduction, reduction, axes, maps, split, precision, layers, heads, (), count, grids)
    if pairs:
        chosen = np.stack([attention[:, layer, head] for layer, head in pairs], axis=1)
        split = np.stack([shares[:, layer, head] for layer, head in pairs], axis=1)
        axes = ("query", "layer_head", "patch")
        views["pairs"] = _view(
            "pairs", "none", axes, chosen, split, precision, layers, heads, tuple(pairs), count, grids
        )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = buffer.getvalue()
    rendered = f"USER: <image>\n{prompt} ASSISTANT:"
    ids = (1, 20, 21, *([4] * (grid * grid)), 22, 23, 24)
    facts = Facts(
        answer="".join(words).strip(),
        finish_reason="stop",
        prompt=Prompt(prompt, "chat", rendered, ids, tuple(f"p{i}" for i in ids)),
        images=(
            Image(width_px, height_px, hashlib.sha256(data).hexdigest(), hashlib.sha256(picture.tobytes()).hexdigest()),
        ),
        grids=grids,
        model=Model("synthetic", "none", "0" * 40, "float32", "sdpa+capture", "cpu", layers, heads),
        tokens=(*(_token(i, word) for i, word in enumerate(words)), _token(len(words), "</s>", special=True)),
        queries=tuple(Query("answer", t, len(ids) - 1 + t, t) for t in range(count)),
        software={"llava_gaze": "0.1.0", "torch": "none"},
    )
    run = {"request_id": "synthetic", "total_ms": 1.5}
    return Record(facts, views, run, ("picture.png", data) if with_picture else None)


def with_geometry(record: Record, geometry: Geometry) -> Record:
    """The same maps and picture with another way from picture to patches."""
    facts, grid = record.facts, record.grids[0]
    image = replace(facts.image, width_px=geometry.width_px, height_px=geometry.height_px)
    grids = (geometry.grid(grid.positions, grid.name),)
    views = {name: replace(view, grids=grids) for name, view in record.views.items()}
    return replace(record, facts=replace(facts, images=(image,), grids=grids), views=views)


def _token(index: int, word: str, special: bool = False) -> Token:
    top = tuple(Candidate(100 + index + k, word if k == 0 else f" other{k}", -0.1 - k) for k in range(5))
    return Token(100 + index, word.replace(" ", "Ġ"), "" if special else word, -0.1, top, special)


def _reduce(
    attention: np.ndarray, shares: np.ndarray, reduction: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if reduction == "none":
        return attention, shares, ("query", "layer", "head", "patch")
    if reduction == "heads":
        return attention.mean(2), shares.mean(2), ("query", "layer", "patch")
    if reduction == "layers_heads":
        return attention.mean((1, 2)), shares.mean((1, 2)), ("query", "patch")
    return attention[:-1].mean((0, 1, 2)), shares[:-1].mean((0, 1, 2)), ("patch",)


def _view(
    name: str,
    reduction: str,
    axes: tuple[str, ...],
    maps: np.ndarray,
    shares: np.ndarray,
    precision: str,
    layers: int,
    heads: int,
    pairs: tuple[tuple[int, int], ...],
    count: int,
    grids: tuple[Grid, ...],
) -> View:
    facts = ViewFacts(
        name=name,
        reduction=reduction,  # type: ignore[arg-type]
        axes=axes,
        layers=() if pairs else tuple(range(layers)),
        heads=() if pairs else tuple(range(heads)),
        pairs=pairs,
        head_set="",
        steps=tuple(range(count - 1)) if reduction == "all" else (),
        precision=precision,  # type: ignore[arg-type]
        encoding=written(precision),
        error_bound=0.0,
    )
    flat = np.asarray(maps, np.float32).reshape(*maps.shape[:-2], -1)
    return View.of(facts, flat, np.asarray(shares, np.float32), grids)
