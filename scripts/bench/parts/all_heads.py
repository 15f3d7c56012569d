"""A record of every head of a large model, made from a seed: what a long description of an image weighs.

Flow: seed -> random queries and keys on a grid, with sinks and heavy tails -> softmax over all that a token can see ->
maps and shares of every layer and head -> a `Record` in the precision that is asked for. No model runs: maps have the
shape and the spread of real ones, and mean nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from llava_wire.codes.quantize import written
from llava_wire.record import Record
from llava_wire.schema import ViewFacts
from llava_wire.view import View
from servekit.paths import ROOT

TOKENS, LAYERS, HEADS, SIDE = 131, 32, 32, 24
_WIDTH = 64
"""Numbers of a query and a key."""
_PROMPT = 17
"""Tokens of the prompt beside the image and the first."""
_SINKS = 6
"""Patches that every head reads, whatever the word."""
Floats = npt.NDArray[np.float32]


def rows(tokens: int, layers: int, heads: int, side: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """The attention of each layer in turn: maps [token, head, patch], shares [token, head, 4], float32."""
    rng = np.random.default_rng(seed)
    patches = side * side
    sinks = rng.choice(patches, min(_SINKS, patches), replace=False)
    for layer in range(layers):
        # What a patch shows varies slowly over the image, what each head looks for with the layer.
        keys = _smooth(rng.standard_normal((heads, side, side, _WIDTH)).astype(np.float32), layer / max(1, layers - 1))
        queries = rng.standard_normal((tokens, heads, _WIDTH)).astype(np.float32)
        # A few heads are sharp, most are not.
        sharp = np.exp(rng.normal(0.4, 0.5, heads)).astype(np.float32)
        scores = np.einsum("thd,hpd->thp", queries, keys.reshape(heads, patches, _WIDTH)) / np.float32(_WIDTH**0.5)
        scores = scores * sharp[:, None] + rng.standard_t(4, scores.shape).astype(np.float32) * np.float32(0.35)
        scores[..., sinks] += rng.gamma(2.0, 1.0, (heads, len(sinks))).astype(np.float32)
        text = rng.normal(1.0, 1.0, (tokens, heads, 1 + _PROMPT + tokens)).astype(np.float32)
        text[..., 0] += rng.gamma(4.0, 1.2, heads).astype(np.float32) + 2
        unseen = np.arange(tokens) >= np.arange(tokens)[:, None]
        text[..., 1 + _PROMPT :][np.broadcast_to(unseen[:, None], (tokens, heads, tokens))] = -np.inf
        yield _softmax(scores, text)


def _smooth(keys: Floats, part: float) -> Floats:
    """Keys [head, row, col, width] mixed with the mean of their 3 x 3 neighbours, unit variance kept about."""
    wide = np.pad(keys, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
    side = keys.shape[1]
    mean = sum(wide[:, i : i + side, j : j + side] for i in range(3) for j in range(3)) / np.float32(3)
    mixed: Floats = np.float32(1 - 0.7 * part) * keys + np.float32(0.7 * part) * mean
    return mixed


def _softmax(image: Floats, text: Floats) -> tuple[Floats, Floats]:
    """Maps and shares of scores [token, head, patch] and [token, head, first + prompt + answer]."""
    most = np.maximum(image.max(-1), text.max(-1))[..., None]
    maps, rest = np.exp(image - most), np.exp(text - most)
    total = maps.sum(-1, keepdims=True) + rest.sum(-1, keepdims=True)
    maps, rest = maps / total, rest / total
    parts = (rest[..., 0], maps.sum(-1), rest[..., 1 : 1 + _PROMPT].sum(-1), rest[..., 1 + _PROMPT :].sum(-1))
    return maps, np.stack(parts, -1).astype(np.float32)


def all_maps(
    tokens: int = TOKENS, layers: int = LAYERS, heads: int = HEADS, side: int = SIDE, seed: int = 1
) -> tuple[Floats, Floats]:
    """The maps [token, layer, head, patch] and shares [token, layer, head, 4] of every head."""
    maps = np.empty((tokens, layers, heads, side * side), np.float32)
    shares = np.empty((tokens, layers, heads, 4), np.float32)
    for layer, (own, split) in enumerate(rows(tokens, layers, heads, side, seed)):
        maps[:, layer], shares[:, layer] = own, split
    return maps, shares


def record_of(maps: Floats, shares: Floats, precision: str) -> Record:
    """A record of one view with these maps, on a picture of 640 x 480 px."""
    sys.path[:0] = [str(ROOT / "tests")] if str(ROOT / "tests") not in sys.path else []
    from support.synthetic import make_record

    tokens, layers, heads, patches = maps.shape
    side = round(patches**0.5)
    words = tuple(f" word{number}" for number in range(tokens - 1))
    plain = make_record(
        grid=side,
        patch_px=14,
        width_px=640,
        height_px=480,
        layers=1,
        heads=1,
        words=words,
        reductions=("layers_heads",),
    )
    facts = replace(plain.facts, model=replace(plain.facts.model, layers=layers, heads=heads))
    view = ViewFacts(
        name="heads", reduction="none", axes=("query", "layer", "head", "patch"), layers=tuple(range(layers)),
        heads=tuple(range(heads)), pairs=(), head_set="", steps=(), precision=precision,  # type: ignore[arg-type]
        encoding=written(precision), error_bound=0.0,
    )  # fmt: skip
    return replace(plain, facts=facts, views={"heads": View.of(view, maps, shares, plain.grids)})
