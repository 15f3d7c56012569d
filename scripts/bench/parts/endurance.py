"""Many requests in a row through one engine, with other options every time, watching memory and compilation.

Flow: seeded random requests -> `Engine.run` in groups -> resident memory and compiled graphs after each group.
"""

from __future__ import annotations

import gc
import io
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import psutil
import torch

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, encode
from llava_wire.reduction import REDUCTIONS
from shapes.scenes import Orientation, make_scene

QUESTIONS = (
    "Describe the image.",
    "What colour is the square?",
    "Is there a red circle in the image?",
    "How many shapes are there?",
    "Which shape is on the left, and what is to the right of it?",
)
_SIDES_PX = (96, 192, 320, 480)


@dataclass
class Watch:
    """What was seen.

    Args:
        requests, resident_bytes, graphs: one entry per group: requests so far, resident memory, graphs compiled so far.
        graphs_before: graphs compiled before the first request.
        refused: answers shorter than the steps that were asked for.
        options: how often each option was used.
    """

    requests: list[int] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    graphs: list[int] = field(default_factory=list)
    graphs_before: int = 0
    refused: int = 0
    options: Counter[str] = field(default_factory=Counter)


def random_options(rng: random.Random, layers: int, heads: int) -> dict[str, Any]:
    """Options of one request: other views, reductions, precisions, rows, lengths and decoding every time."""
    options: dict[str, Any] = {
        "max_new_tokens": rng.choice((4, 8, 16, 24, 48)),
        "precision": rng.choice(("uint8", "float16", "float32")),
        "rows": rng.choice(("answer", "answer", "prompt", "both")),
    }
    reductions = tuple(name for name in REDUCTIONS if options["rows"] != "prompt" or not REDUCTIONS[name].over_steps)
    choice = rng.random()
    if choice < 0.4:
        options["views"] = [
            {
                "name": f"view {i}",
                "layers": sorted(rng.sample(range(layers), rng.randint(1, layers))),
                "heads": sorted(rng.sample(range(heads), rng.randint(1, heads))),
                "reduction": rng.choice(reductions),
            }
            for i in range(rng.randint(1, 3))
        ]
    elif choice < 0.6:
        options["heads"] = [[rng.randrange(layers), head] for head in rng.sample(range(heads), 3)]
        options["reduction"] = rng.choice(("none", "layers_heads"))
    elif choice < 0.8:
        options |= {"layers": "all", "heads": "all", "reduction": rng.choice(reductions)}
    decoding = rng.random()
    if decoding < 0.3:
        options |= {"temperature": rng.choice((0.5, 1.0)), "top_p": 0.9, "seed": rng.randrange(1 << 30)}
    elif decoding < 0.4:
        options["num_beams"] = rng.randint(2, 4)
    elif decoding < 0.5:
        options |= {"temperature": 0.8, "num_return_sequences": rng.randint(2, 3)}
    if rng.random() < 0.2 and options["rows"] != "prompt":
        options["steps"] = sorted(rng.sample(range(4), 2))
    return options


def endure(engine: Engine, count: int, watch: Callable[[Watch], None] | None = None) -> Watch:
    """Runs `count` requests in groups of 1 to 6; every answer is encoded as it would be for a client.

    Args:
        engine: the engine.
        count: requests in all.
        watch: called after each group.

    Raises:
        RuntimeError: when a request is refused for another reason than its answer being shorter than its steps.
    """
    rng, seen, facts = random.Random(0), Watch(graphs_before=compiled_graphs()), engine.loaded.facts
    process, done = psutil.Process(), 0
    while done < count:
        group = []
        for _ in range(min(rng.randint(1, 6), count - done)):
            options = random_options(rng, facts.layers, facts.heads)
            seen.options.update(f"{key}={value}" for key, value in options.items() if isinstance(value, str))
            seen.options.update(key for key, value in options.items() if not isinstance(value, str))
            group.append(GenerateRequest.build(_picture(rng), rng.choice(QUESTIONS), options))
        for result in engine.run(group):
            if isinstance(result, Record):
                encode(result)
            elif result.field == "options.steps":
                seen.refused += 1
            else:
                raise RuntimeError(f"endurance: {result}")
        done += len(group)
        gc.collect()
        seen.requests.append(done)
        seen.resident_bytes.append(process.memory_info().rss)
        seen.graphs.append(compiled_graphs())
        if watch:
            watch(seen)
    return seen


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _picture(rng: random.Random) -> bytes:
    orientation = rng.choice(get_args(Orientation))
    image = make_scene(rng, orientation).image
    side = rng.choice(_SIDES_PX)
    buffer = io.BytesIO()
    image.resize((side, side * image.height // image.width)).save(buffer, rng.choice(("PNG", "JPEG")))
    return buffer.getvalue()
