"""Measures what capture adds to a decode step and to a prefill at LLaVA lengths, on random text models.

Flow: a random Llama (no vision tower: it is the same for every way) -> a key cache of the prompt's length filled with
random numbers -> interleaved decode steps of plain sdpa, capture in four settings, eager output_attentions=True and
forward hooks that recompute q -> thread CPU time -> medians of paired ratios with 95 % bootstrap intervals. Rows that
capture computes after the last step are part of its cost, spread over the steps.
Example: scripts/bench_capture.py --shape 2048x16x6 --dtype float32 --prompt 616 --out docs/benchmarks/decode.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bench_engine import ratio
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from llava_server.capture import CAPTURE_ATTENTION, QueryCapture, register
from llava_server.plan import ViewPlan
from llava_server.reduce import reduced_views
from llava_server.rows import RowLayout

IMAGE_TOKENS = 576
BASE = "plain sdpa"


@dataclass
class Way:
    """One way of decoding: its attention, what it passes to forward, and what it does after the last step."""

    attention: str
    views: tuple[ViewPlan, ...] = ()
    hooks: bool = False
    cache: DynamicCache = field(default_factory=DynamicCache)
    capture: QueryCapture | None = None
    kept: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    after_s: float = 0.0


def ways(layers: int, heads: int) -> dict[str, Way]:
    """Every way, by name."""
    grid = tuple(range(layers)), tuple(range(heads))
    two = ViewPlan("two heads", "layers_heads", (), (), ((layers // 2, 0), (layers // 2, 1)))
    mean = ViewPlan("mean", "layers_heads", *grid)
    return {
        BASE: Way("sdpa"),
        "capture registered, idle": Way(CAPTURE_ATTENTION),
        "capture, two heads": Way(CAPTURE_ATTENTION, (two,)),
        "capture, default views (two heads and the mean of all)": Way(CAPTURE_ATTENTION, (two, mean)),
        "capture, all layers and heads unreduced": Way(CAPTURE_ATTENTION, (ViewPlan("all", "none", *grid),)),
        "eager, output_attentions=True": Way("eager"),
        "forward hooks recomputing q": Way("sdpa", hooks=True),
    }


def decode_steps(model: LlamaForCausalLM, runs: dict[str, Way], prompt: int, steps: int) -> None:
    """Decodes `steps` tokens in every way, step by step in changing order; times go to `Way.seconds`."""
    config, rng = model.config, random.Random(0)
    shape = (1, config.num_key_value_heads, prompt, config.head_dim)
    tensors = [
        (torch.randn(shape, dtype=model.dtype), torch.randn(shape, dtype=model.dtype))
        for _ in range(config.num_hidden_layers)
    ]
    for way in runs.values():
        for layer, (keys, values) in enumerate(tensors):
            way.cache.update(keys, values, layer)
        if way.views:
            # The first decode step stands in for the prefill, whose last row is captured the same way.
            layers = frozenset(layer for view in way.views for layer in view.cells)
            way.capture = QueryCapture(torch.tensor([[prompt]]), prompt + 1, layers)
    for step in range(steps):
        order = list(runs.values())
        rng.shuffle(order)
        ids, position = torch.tensor([[1 + step]]), torch.tensor([[prompt + step]])
        for way in order:
            way.seconds.append(timed(lambda way=way, ids=ids, position=position: _step(model, way, ids, position)))
    for way in runs.values():
        if way.views:
            way.after_s = timed(lambda way=way: _finish(model, way, prompt, steps))


def _step(model: LlamaForCausalLM, way: Way, ids: torch.Tensor, position: torch.Tensor) -> None:
    model.set_attn_implementation(way.attention)
    extra: dict[str, Any] = {} if way.capture is None else {"query_capture": way.capture}
    handles = _hooks(model, way) if way.hooks else []
    output = model(
        ids, position_ids=position, past_key_values=way.cache, output_attentions=way.attention == "eager", **extra
    )
    if way.attention == "eager":
        way.kept.append(output.attentions)
    for handle in handles:
        handle.remove()


def _hooks(model: LlamaForCausalLM, way: Way) -> list[Any]:
    """What tools do that cannot change the attention: recompute q from each layer's input, and a row from the cache."""

    def after(module: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        hidden = given["hidden_states"] if "hidden_states" in given else args[0]
        query = module.q_proj(hidden[:, -1:]).view(1, 1, -1, module.head_dim).transpose(1, 2)
        keys = way.cache.layers[module.layer_idx].keys
        weights = (query.float() @ keys.float().transpose(2, 3) * module.scaling).softmax(-1)
        way.kept.append(weights[..., :IMAGE_TOKENS].mean(1))

    return [layer.self_attn.register_forward_hook(after, with_kwargs=True) for layer in model.model.layers]


def _finish(model: LlamaForCausalLM, way: Way, prompt: int, steps: int) -> None:
    """Rows and reductions of all steps, as the engine does it when a request has finished."""
    assert way.capture is not None
    layout = RowLayout(0, prompt, True, 5, IMAGE_TOKENS, torch.arange(prompt, prompt + steps))
    everything, keys = torch.ones(steps, dtype=torch.bool), [layer.keys for layer in way.cache.layers]
    way.kept = reduced_views(way.views, way.capture, keys, 0, layout, everything, torch.device("cpu"))


def timed(call: Callable[[], None]) -> float:
    """Thread CPU seconds of one call."""
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def retained_bytes(way: Way) -> int:
    """What a way keeps for the caller after the last step: attentions or maps."""
    tensors = [t for item in way.kept for t in (item if isinstance(item, tuple) else (item,))]
    return sum(t.numel() * t.element_size() for t in tensors)


@torch.inference_mode()
def main() -> int:
    """Exit 0 when measured; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="2048x16x6", help="width x heads x layers (default 2048x16x6)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--prompt", type=int, default=616, help="tokens in the cache (default 616, LLaVA-1.5)")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--out", type=Path, help="where to keep the raw numbers as JSON")
    given = parser.parse_args()
    width, heads, layers = (int(part) for part in given.shape.split("x"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    register()
    config = LlamaConfig(
        hidden_size=width, num_attention_heads=heads, num_key_value_heads=heads, num_hidden_layers=layers,
        intermediate_size=int(width * 2.6875), vocab_size=1024, max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(getattr(torch, given.dtype)).eval()
    runs = ways(layers, heads)
    decode_steps(model, runs, given.prompt, given.steps)
    base = runs[BASE].seconds
    table = {}
    for name, way in runs.items():
        spent = [second + way.after_s / given.steps for second in way.seconds]
        table[name] = ratio(spent, base)
        middle, low, high = table[name]
        kept = retained_bytes(way) / 1e6
        print(f"{name:<56} x {middle:.3f}  95 % [{low:.3f}, {high:.3f}]  keeps {kept:8.2f} MB")
    if given.out:
        document = {
            "what": "one decode step", "shape": given.shape, "dtype": given.dtype, "prompt": given.prompt,
            "steps": given.steps, "torch": torch.__version__,
            "machine": f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), one thread",
            "ratio_to_plain_sdpa": {name: [round(v, 4) for v in row] for name, row in table.items()},
            "after_the_last_step_s": {name: round(way.after_s, 6) for name, way in runs.items()},
            "retained_bytes": {name: retained_bytes(way) for name, way in runs.items()},
            "seconds": {name: [round(v, 6) for v in way.seconds] for name, way in runs.items()},
        }  # fmt: skip
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
