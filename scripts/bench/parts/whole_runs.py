"""Whole answers of plain, capturing and eager generation on one model, timed by the clock on the wall.

Flow: model + processor -> `runners` (a callable per way and batch size) -> rounds in random order of a long and a short
answer -> milliseconds per token (their difference), milliseconds to the first token, peak memory.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import Limits, ModelSettings
from llava_server.attend.capture import CAPTURE_ATTENTION
from llava_server.engine import Engine
from llava_wire import Record
from shapes.scenes import make_scene

QUESTION = "What is in the image?"
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "format": "npz"}
OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Runner:
    """One way: the attention that the shared model needs, and what answers one question in every row of a batch."""

    attention: str
    answer: Callable[[int, int], None]  # (batch, new tokens)


@dataclass
class Timings:
    """Of one way and batch size, one entry per round: seconds of short and long answers; peak bytes, or 0 unknown."""

    short: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def runners(model: Any, processor: Any, dynamic: Engine, compiled: Engine | None) -> dict[str, Runner]:
    """Every way by its title.

    Args:
        model, processor: shared by all ways.
        dynamic: the engine on a growing cache.
        compiled: the engine on static buffers, or None to leave out everything compiled.
    """
    pictures = [drawn_scene(seed) for seed in range(16)]
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}],
        add_generation_prompt=True,
    )

    def generating(**extra: Any) -> Callable[[int, int], None]:
        def answer(batch: int, new_tokens: int) -> None:
            images = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures[:batch]]
            inputs = processor(images=images, text=[text] * batch, return_tensors="pt").to(model.device, model.dtype)
            with torch.inference_mode():
                result = model.generate(
                    **inputs, max_new_tokens=new_tokens, do_sample=False, return_dict_in_generate=True, **extra
                )
            _check(result.sequences.shape[1] - inputs["input_ids"].shape[1], new_tokens)

        return answer

    def capturing(engine: Engine, options: dict[str, Any]) -> Callable[[int, int], None]:
        def answer(batch: int, new_tokens: int) -> None:
            requests = [
                GenerateRequest.build(data, QUESTION, {"check": [], **options, "max_new_tokens": new_tokens})
                for data in pictures[:batch]
            ]
            for record in engine.run(requests):
                if not isinstance(record, Record):
                    raise RuntimeError(f"engine: {record}")
                _check(len(record.tokens), new_tokens)

        return answer

    ways = {
        "plain sdpa": Runner("sdpa", generating()),
        "engine, default views": Runner(CAPTURE_ATTENTION, capturing(dynamic, {})),
        "engine, everything unreduced": Runner(CAPTURE_ATTENTION, capturing(dynamic, EVERYTHING)),
        "eager, output_attentions=True": Runner("eager", generating(output_attentions=True)),
    }
    if compiled is not None:
        ways |= {
            "plain sdpa, compiled": Runner("sdpa", generating(cache_implementation="static")),
            "engine compiled, default views": Runner(CAPTURE_ATTENTION, capturing(compiled, {})),
            "engine compiled, everything unreduced": Runner(CAPTURE_ATTENTION, capturing(compiled, EVERYTHING)),
        }
    return ways


def measure(
    model: Any,
    ways: dict[str, Runner],
    batch: int,
    short: int,
    long: int,
    rounds: int,
    *,
    until: float = float("inf"),
    rough: Callable[[str, float, int], None] = lambda title, ms_per_token, peak_bytes: None,
) -> tuple[dict[str, Timings], dict[str, str]]:
    """Times every way at one batch size; the first, untimed run of each pays for compiling.

    Args:
        model: the shared model.
        ways: from `runners`.
        batch: questions at once.
        short, long: new tokens of the two answers.
        rounds: of both answers in every way, at most.
        until: moment of `time.perf_counter` after which nothing more is begun; a round is begun only when one as long
            as the last would end before.
        rough: told of each way as soon as it has run: title, milliseconds per token of a single run, peak bytes.

    Returns:
        title -> timings, and title -> why it was left out.
    """
    found: dict[str, Timings] = {}
    left_out: dict[str, str] = {}
    for title, way in ways.items():
        if time.perf_counter() >= until:
            left_out[title] = OUT_OF_TIME
            continue
        try:
            _timed(model, way, batch, short)
            _timed(model, way, batch, long)
            found[title] = Timings(peak_bytes=_peak_of(model, way, batch, long))
            spent_s = _timed(model, way, batch, long) - _timed(model, way, batch, short)
            rough(title, spent_s / (long - short) * 1000, found[title].peak_bytes)
        except torch.OutOfMemoryError:
            left_out[title] = "out of memory"
            torch.cuda.empty_cache()
    rng = random.Random(batch)
    lasted_s = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        if begin + lasted_s >= until:
            break
        order = [(title, length) for title in found for length in (short, long)]
        rng.shuffle(order)
        for title, length in order:
            series = found[title].short if length == short else found[title].long
            series.append(_timed(model, ways[title], batch, length))
        lasted_s = time.perf_counter() - begin
    for title in [title for title, timings in found.items() if not timings.long]:
        del found[title]
        left_out[title] = OUT_OF_TIME
    return found, left_out


def roomy_settings(config: Any, path: Path, **changes: Any) -> ModelSettings:
    """The settings of a model's YAML without limits: what is timed is the device, so only the device sets one.

    Args:
        config: of the model that runs; one that was shrunk does not have the layers that the YAML's heads name.
        path: the YAML.
        changes: further settings.
    """
    settings = ModelSettings.from_yaml(path)
    named = [layer for pairs in settings.head_sets.values() for layer, _ in pairs]
    if max(named, default=0) >= config.text_config.num_hidden_layers:
        settings = replace(settings, default_views=ModelSettings().default_views, head_sets={})
    return replace(settings, limits=replace(Limits(), batch_bytes=1 << 40, max_response_bytes=1 << 40), **changes)


def copy_bandwidth(device: torch.device, size_bytes: int, rounds: int = 10) -> float:
    """Bytes per second that the device moves when it copies: read and written bytes together."""
    source = torch.empty(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = float("inf")
    for _ in range(rounds):
        _synchronise(device)
        begin = time.perf_counter()
        target.copy_(source)
        _synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size_bytes / best


def decoding_weight_bytes(model: Any) -> int:
    """Bytes of weights that a decode step reads: the text layers and the output head, no embeddings, no vision."""
    text = model.model.language_model
    kept = [*text.layers.parameters(), *text.norm.parameters(), *model.lm_head.parameters()]
    return sum(parameter.nbytes for parameter in kept)


def _timed(model: Any, way: Runner, batch: int, length: int) -> float:
    model.set_attn_implementation({"text_config": way.attention})
    _synchronise(model.device)
    begin = time.perf_counter()
    way.answer(batch, length)
    _synchronise(model.device)
    return time.perf_counter() - begin


def _peak_of(model: Any, way: Runner, batch: int, length: int) -> int:
    """The most bytes allocated on the GPU beyond what lies there before."""
    if model.device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _timed(model, way, batch, length)
    return torch.cuda.max_memory_allocated() - before


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check(got: int, wanted: int) -> None:
    if got != wanted:
        raise RuntimeError(f"tokens: got {got}, expected {wanted}: the ways must do the same work")


def drawn_scene(seed: int) -> bytes:
    """A picture that differs by its seed, as the bytes of a PNG file."""
    buffer = io.BytesIO()
    make_scene(random.Random(seed), "landscape").image.save(buffer, "PNG")
    return buffer.getvalue()
