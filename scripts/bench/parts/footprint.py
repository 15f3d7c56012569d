"""How much memory one answer takes in one way, measured in a process of its own.

Flow: model -> tensors and resident memory before -> prefill and decode steps -> the peak, what is held at the last
step, what is left when rows and reductions are done and cache and queries are gone -> `Footprint`.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import DynamicCache, LlamaForCausalLM

from bench.parts.ways import Answer, Way

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Footprint:
    """Bytes beside the weights.

    peak: the most at any time, cache included: resident memory on the CPU, allocated memory on a GPU. held: tensors
    beside the cache at the last step. retained: tensors left when the answer is finished.
    """

    peak: int
    held: int
    retained: int


def footprint(model: LlamaForCausalLM, way: Way, prompt: int, steps: int) -> Footprint:
    """Runs one answer: a prefill of `prompt` tokens and `steps` decode steps."""
    device = model.device
    ids = torch.randint(1, 1000, (1, prompt + steps), device=device)
    places = torch.arange(prompt + steps, device=device)[None]
    # What a process allocates once, such as workspaces of matrix products, is not the answer's.
    _answer(model, way, 64, ids[:, :66], places[:, :66])
    gc.collect()
    weights, resident = tensor_bytes(), _reset_peak(device)
    answer = _answer(model, way, prompt, ids, places)
    cached = sum(tensor.nbytes for layer in answer.cache.layers for tensor in (layer.keys, layer.values))
    held = tensor_bytes() - weights - cached
    answer.finish()
    answer.release()
    gc.collect()
    return Footprint(_peak(device) - resident, held, tensor_bytes() - weights)


def _answer(model: LlamaForCausalLM, way: Way, prompt: int, ids: torch.Tensor, places: torch.Tensor) -> Answer:
    answer = Answer(model, way, prompt, DynamicCache())
    answer.attach()
    answer.forward(ids[:, :prompt], places[:, :prompt])
    for step in range(prompt, ids.shape[1]):
        answer.forward(ids[:, step : step + 1], places[:, step : step + 1])
        answer.stepped(step)
    answer.detach()
    return answer


def tensor_bytes() -> int:
    """Bytes of all storages that a Python tensor refers to."""
    # `type`, not isinstance: some objects of the collector run code when they are asked for their class.
    tensors = [entry for entry in gc.get_objects() if type(entry) in (torch.Tensor, torch.nn.Parameter)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _reset_peak(device: torch.device) -> int:
    """Starts the high-water mark anew; returns what is in use now."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_bytes("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
