"""Many requests in a row with changing options: nothing stays behind, and nothing is compiled again."""

from __future__ import annotations

import gc
import random

from bench.parts.endurance import compiled_graphs, endure, random_options
from bench.parts.footprint import tensor_bytes


def test_nothing_stays_behind(static_engine):
    endure(static_engine, 5)
    gc.collect()
    before = tensor_bytes()
    seen = endure(static_engine, 40)
    gc.collect()
    assert tensor_bytes() == before
    assert seen.requests[-1] == 40
    assert seen.graphs[-1] == seen.graphs_before == compiled_graphs()
    assert len(seen.options) > 15, "the requests must differ"


def test_requests_use_every_kind_of_option():
    rng, seen = random.Random(1), set()
    for _ in range(300):
        options = random_options(rng, 4, 8)
        seen |= {(key, value) if isinstance(value, str) else key for key, value in options.items()}
        seen |= {("view", view["reduction"]) for view in options.get("views", ())}
    wanted = {
        "temperature",
        "num_beams",
        "num_return_sequences",
        "steps",
        "heads",
        ("rows", "both"),
        ("rows", "prompt"),
    }
    wanted |= {("precision", name) for name in ("uint8", "float16", "float32")}
    wanted |= {("view", name) for name in ("none", "heads", "layers_heads", "all")}
    assert wanted <= seen
