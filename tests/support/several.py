"""Records of version 2 that version 1 could not hold: several pictures and grids, signed maps, quantities of all kinds.

Flow: a seed -> two pictures, three grids with separators between their rows -> one view per quantity and precision.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llava_wire.codes.quantize import written
from llava_wire.geometry import Geometry, Preprocess
from llava_wire.grids import Grid, Step, image_runs, runs_of
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.record import Record
from llava_wire.schema import Annotations, Image, MethodFacts, Note, Prompt, Query, TextFacts, Turn, ViewFacts
from llava_wire.view import TextView, View
from support.synthetic import make_record

CONTRIBUTION = Quantity("contribution", "logit", signed=True, additive=True)
SURPRISE = Quantity("surprise", "nats")
IMAGES = (Image(256, 192, "a" * 64, "b" * 64), Image(100, 300, "c" * 64, "d" * 64))
LAYERS, HEADS = 2, 3


def make_grids() -> tuple[tuple[Grid, ...], int]:
    """Three grids on two pictures, a separator after every row of two of them, and how many ids the prompt has."""
    whole = Preprocess(8, exact_size=(32, 48)).plan(256, 192)
    tile = Preprocess(8, shortest_edge=32, crop=(24, 24)).plan(256, 192)
    tall = Preprocess(10, pad_to_square=True, exact_size=(30, 30)).plan(100, 300)
    at, grids = 4, []
    for geometry, name, image, apart in (
        (whole, "base", 0, False),
        (tile, "tile 0,1", 0, True),
        (tall, "detail", 1, True),
    ):
        if apart:
            runs = tuple((at + row * (geometry.cols + 1), geometry.cols) for row in range(geometry.rows))
            at += geometry.rows * (geometry.cols + 1)
        else:
            runs, at = ((at, geometry.rows * geometry.cols),), at + geometry.rows * geometry.cols
        grids.append(geometry.grid(runs, name, image))
        at += 2
    return tuple(grids), at + 5


def make_several(seed: int = 0) -> Record:
    """A record of two pictures and three grids; one view of shares, three of other quantities."""
    rng = np.random.default_rng(seed)
    grids, length = make_grids()
    one = make_record(with_picture=False, seed=seed, layers=LAYERS, heads=HEADS)
    count, patches = len(one.queries), sum(grid.patches for grid in grids)
    noise = rng.normal(0, 1, (count, LAYERS, HEADS, patches)).astype(np.float32)
    shares = np.broadcast_to(np.float32([0.3, 0.4, 0.2, 0.1]), (count, LAYERS, HEADS, 4))
    attention = np.abs(noise) ** 3
    attention *= 0.4 / attention.sum(-1, keepdims=True)
    views = [
        _view("attention", "none", attention, shares, grids, "uint8", ATTENTION),
        _view("signed", "heads", 3 * noise.mean(2), None, grids, "uint8", CONTRIBUTION),
        _view("signed32", "layers_heads", noise.mean((1, 2)), None, grids, "float32", CONTRIBUTION),
        _view("signed16", "all", noise.mean((0, 1, 2)), None, grids, "float16", CONTRIBUTION),
        _view("surprise", "layers_heads", 5 * np.abs(noise).mean((1, 2)), None, grids, "uint8", SURPRISE),
    ]
    ids = tuple(range(length))
    prompt = Prompt(
        text="And here?", template="chat", rendered="USER: <image><image>\nAnd here? ASSISTANT:", ids=ids,
        pieces=tuple(f"p{i}" for i in ids), system="Answer in one word.",
        turns=(Turn("user", "What is there?"), Turn("assistant", "A 🦊."), Turn("user", "And here?")),
    )  # fmt: skip
    facts = replace(
        one.facts,
        prompt=prompt,
        images=IMAGES,
        grids=grids,
        queries=tuple(Query("answer", t, length - 1 + t, t) for t in range(count)),
        checks={"self_test": {"result": "passed", "row_error": 2.5e-7}, "blanking": {"result": "passed", "n": 24}},
        notes=(Note("tiles", "image", "An image was cut into tiles."),),
        annotations=Annotations("red circle", "contains", True, ("shapes", "ünïcode")),
    )
    return Record(facts, {view.name: view for view in views}, {"request_id": "several"})


WIDE = 120, 80
"""Width and height of an image: patches of its coarse grid are 40 x 40 px, of the fine one in its middle 10 x 10."""
COARSE = Preprocess(10, exact_size=(20, 30)).plan(*WIDE)
FINE = Geometry(*WIDE, (Step("crop", 60, 55, 25, 12),), 10, 5, 6)


def make_coarse_and_fine(values: np.ndarray) -> Record:
    """A record of one image with a coarse grid and a fine one on a part of it, each token with this map of both."""
    one = make_record(with_picture=False, reductions=("layers_heads",))
    grids = (COARSE.grid(((4, 6),), "base"), FINE.grid(((11, 30),), "detail"))
    view = next(iter(one.views.values()))
    count = len(one.queries)
    maps = np.ascontiguousarray(np.broadcast_to(values.astype(np.float32), (count, 36)))
    shares = np.broadcast_to(np.float32([0, values.sum(), 1 - values.sum(), 0]), (count, 4))
    made = View.of(replace(view.facts, precision="float32"), maps, shares, grids)
    facts = replace(one.facts, images=(Image(*WIDE, "a" * 64, "b" * 64),), grids=grids)
    return replace(one, facts=facts, views={made.name: made})


def make_signed(seed: int = 0, many: int = HEADS) -> Record:
    """A record of one grid: attention, a signed view with layers and heads apart, one of the answer, and counts.

    Token t's brightest patch of the signed view is that at (t mod rows, t mod cols), below 0 for odd t.
    """
    rng = np.random.default_rng(seed)
    one = make_record(reductions=("layers_heads",), seed=seed, layers=LAYERS, heads=many)
    grids, count = one.grids, len(one.queries)
    [grid] = grids
    maps = rng.normal(0, 0.4, (count, LAYERS, many, grid.rows, grid.cols)).astype(np.float32)
    for t in range(count):
        maps[t, :, :, t % grid.rows, t % grid.cols] = 3 if t % 2 == 0 else -3
    flat = maps.reshape(count, LAYERS, many, grid.patches)
    views = [
        one.views["layers_heads"],
        _view("signed", "none", flat, None, grids, "uint8", CONTRIBUTION, many),
        _view("answer", "all", flat.mean((0, 1, 2)), None, grids, "float32", CONTRIBUTION, many),
        _view("counts", "layers_heads", np.abs(flat).mean((1, 2)), None, grids, "uint8", SURPRISE, many),
    ]
    checks = {"causal_effect": {"result": "passed", "n": 24, "control": 0.02}}
    return replace(one, facts=replace(one.facts, checks=checks), views={view.name: view for view in views})


def _view(
    name: str,
    reduction: str,
    maps: np.ndarray,
    shares: np.ndarray | None,
    grids: tuple[Grid, ...],
    precision: str,
    quantity: Quantity,
    heads: int = HEADS,
) -> View:
    lead = {"none": ("query", "layer", "head"), "heads": ("query", "layer"), "layers_heads": ("query",), "all": ()}
    method = MethodFacts() if quantity is ATTENTION else MethodFacts(f"toy_{quantity.name}", {"layer": 1, "rate": 0.5})
    facts = ViewFacts(
        name=name, reduction=reduction, axes=(*lead[reduction], "patch"),  # type: ignore[arg-type]
        layers=tuple(range(LAYERS)), heads=tuple(range(heads)), pairs=(), head_set="",
        steps=(0, 1) if reduction == "all" else (), precision=precision,  # type: ignore[arg-type]
        encoding=written(precision, quantity), error_bound=0.0, method=method, quantity=quantity,
    )  # fmt: skip
    return View.of(facts, np.asarray(maps, np.float32), shares, grids)


PARTS = ("image", "prompt", "answer", "itself")


def make_split(seed: int = 0, precision: str = "float32") -> Record:
    """A record of one grid: attention, contributions of each token whose total splits, and of the answer."""
    one = make_signed(seed)
    rng = np.random.default_rng(seed + 1)
    flat = rng.normal(0, 0.4, (len(one.queries), one.grids[0].patches)).astype(np.float32)
    parts = np.stack([flat.sum(1), *rng.normal(0, 2, (len(PARTS) - 1, len(flat)))], -1).astype(np.float32)
    views = [
        one.views["layers_heads"],
        _split("split", "layers_heads", flat, parts, one.grids, precision),
        _split("whole", "all", flat.mean(0), parts.mean(0), one.grids, precision),
    ]
    return replace(one, views={view.name: view for view in views})


def _split(
    name: str, reduction: str, maps: np.ndarray, parts: np.ndarray, grids: tuple[Grid, ...], precision: str
) -> View:
    made = _view(name, reduction, maps, None, grids, precision, CONTRIBUTION)
    return View.of(replace(made.facts, parts=PARTS), maps, None, grids, parts)


def make_worded(seed: int = 0) -> Record:
    """A record of several grids with two views of text: shares of all words, and signed numbers of the answer's."""
    record = make_several(seed)
    rng, prompt = np.random.default_rng(seed), len(record.facts.prompt.ids)
    patches = {place for first, count in image_runs(record.grids) for place in range(first, first + count)}
    words = [place for place in range(prompt + len(record.tokens) - 1) if place not in patches]
    rows = np.array([[query.position] for query in record.queries])
    read = rng.random((len(rows), len(words))).astype(np.float32) ** 4 * (np.array(words) <= rows)
    late = rng.normal(0, 1, (len(rows), 3)).astype(np.float32) * (np.array([prompt, prompt + 1, prompt + 2]) <= rows)
    text = MethodFacts("text_attention")
    shares = TextFacts("words", (0, 1), (0, 2), (), "", text, Quantity("attention to text", "share", additive=True),
                       runs_of(words))  # fmt: skip
    signed = TextFacts("rise", (), (), (), "", MethodFacts("toy"), CONTRIBUTION, runs_of(range(prompt, prompt + 3)))
    read /= 2 * read.sum(1, keepdims=True)
    return replace(record, texts={"words": TextView(shares, read), "rise": TextView(signed, late)})


def make_separated(seed: int = 0) -> Record:
    """A record of several grids that tells what lies on the separators behind the rows of two of them."""
    record = make_several(seed)
    ends = [first + count for grid in record.grids[1:] for first, count in grid.positions]
    prompt = replace(record.facts.prompt, separators=runs_of(ends))
    view = record.views["attention"]
    assert view.shares is not None
    parts = np.random.default_rng(seed).uniform(0.02, 0.18, view.shares.shape[:-1]).astype(np.float32)
    views = {**record.views, view.name: replace(view, separators=parts)}
    return replace(record, facts=replace(record.facts, prompt=prompt), views=views)
