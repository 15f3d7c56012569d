"""How many bytes the weights take, whole or quantised, and whether they fit before any is read.

Flow: configuration -> the network on the meta device (shapes without memory) -> which layers are quantised -> bytes;
settings -> what `from_pretrained` needs to know about quantisation and placement.

Only the linear layers of the text model's blocks are quantised: they are nearly all of the weights, and the vision
tower, the projector and the output layer are small and sensitive.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import convert_file_size_to_int
from transformers import BitsAndBytesConfig

from llava_doors.family import Family
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.load.memory import DeviceMemory, device_memory

_BLOCK = 64
"""Weights that share one scale in the 4-bit form; layers of other widths stay whole."""


def weight_bytes(family: Family, dtype: torch.dtype, quantization: str = "") -> int:
    """Bytes of all weights on the device.

    Args:
        family: with the model's configuration.
        dtype: of the weights that are not quantised.
        quantization: "", "8bit" or "4bit".
    """
    network = _shapes(family)
    small = {f"{name}.weight" for name in _quantised(family, network, quantization)}
    total = 0
    for name, parameter in network.named_parameters():
        count = parameter.numel()
        if name not in small:
            total += count * dtype.itemsize
        elif quantization == "8bit":  # and one float32 scale per output
            total += count + parameter.shape[0] * 4
        else:  # and one float32 scale per block
            total += count // 2 + count // _BLOCK * 4
    return total


def quantised_loading(family: Family, dtype: torch.dtype, quantization: str) -> BitsAndBytesConfig | None:
    """What `from_pretrained` calls quantization_config; None for whole weights.

    Raises:
        SettingsError: when bitsandbytes is not installed.
    """
    if not quantization:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingsError(
            f"handler.quantization: got {quantization!r} without the package bitsandbytes, expected with it; "
            "install llava-gaze with its extra 'quantized' (in a checkout: pip install '.[quantized]')"
        )
    network = _shapes(family)
    chosen = set(_quantised(family, network, quantization))
    whole = [name for name, part in network.named_modules() if isinstance(part, torch.nn.Linear) and name not in chosen]
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=whole
    )


def placement(settings: ModelSettings, device: str) -> dict[str, Any]:
    """What `from_pretrained` needs to put the layers where they belong."""
    if device != "map":
        return {"device_map": {"": device}}
    limits = {place: convert_file_size_to_int(size) for place, size in settings.max_memory.items()}
    return {"device_map": "auto", **({"max_memory": limits} if limits else {})}


def check_weights(family: Family, settings: ModelSettings, device: str, dtype: str) -> None:
    """Refuses weights that the device cannot hold, before any is read.

    Raises:
        SettingsError: with both numbers and what to do.
    """
    needed = weight_bytes(family, getattr(torch, dtype), settings.quantization)
    places = devices_of(device)
    limits = placement(settings, device).get("max_memory", {})
    if settings.quantization and any(place.type == "cuda" for place in places):
        # bitsandbytes keeps layers on GPUs alone, and transformers leaves it a tenth of each.
        places = [place for place in places if place.type == "cuda"]
    rooms = [_limited(device_memory(place), limits, place) for place in places]
    if settings.quantization and device == "map":
        rooms = [replace(room, available_bytes=room.available_bytes * 9 // 10) for room in rooms]
    if needed > sum(room.available_bytes for room in rooms):
        raise too_large(needed, settings, dtype, rooms)


def too_large(needed: int, settings: ModelSettings, dtype: str, rooms: list[DeviceMemory]) -> SettingsError:
    """The refusal of weights that do not fit."""
    form = f"{dtype} with {settings.quantization} weights" if settings.quantization else dtype
    return SettingsError(
        f"weights: got {needed} bytes in {form}, expected {' and '.join(map(str, rooms))}; set dtype: float16, "
        "quantization: 8bit or 4bit, or device: map in the model's YAML, or use a larger device"
    )


def devices_of(device: str) -> list[torch.device]:
    """The devices that layers may be put on: the one named, or for "map" every GPU and then the host."""
    if device != "map":
        return [torch.device(device)]
    return [*(torch.device("cuda", i) for i in range(torch.cuda.device_count())), torch.device("cpu")]


def _limited(memory: DeviceMemory, limits: Mapping[int | str, int], place: torch.device) -> DeviceMemory:
    """The memory under the configured limit; with limits, places that they do not name take nothing."""
    if not limits:
        return memory
    allowed = limits.get("cpu" if place.type == "cpu" else place.index, 0)
    if allowed >= memory.available_bytes:
        return memory
    return DeviceMemory(memory.device, memory.total_bytes, allowed, "max_memory")


def _shapes(family: Family) -> Any:
    with torch.device("meta"):
        return family.model_class()(family.config)


def _quantised(family: Family, network: Any, quantization: str) -> list[str]:
    """Names of the linear layers that are quantised."""
    if not quantization:
        return []
    blocks = family.text_model(network).layers
    names = {part: name for name, part in network.named_modules()}
    return [
        names[part]
        for part in blocks.modules()
        if isinstance(part, torch.nn.Linear)
        and (quantization == "8bit" or (part.in_features % _BLOCK == 0 and part.out_features % 32 == 0))
    ]
