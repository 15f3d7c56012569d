"""A folder of weights to a model and processor that are ready to capture.

Flow: folder + settings -> processor (PIL image backend) and model (sdpa, capture registered on the text model only,
placed by accelerate) -> `LoadedModel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from llava_doors.family import Family, Layout, ModelFacts
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.attend.capture import CAPTURE_ATTENTION, register
from llava_server.load.checkpoint import check_checkpoint
from llava_server.load.choosing import published
from llava_server.load.family import as_settings_errors, family_of
from llava_server.load.memory import device_memory, is_out_of_memory
from llava_server.load.probe import rotation_depends_on_length
from llava_server.load.quiet import bars_on_terminals_only
from llava_server.load.weights import check_weights, devices_of, placement, quantised_loading, too_large, weight_bytes
from llava_wire.schema import Note


@dataclass(frozen=True)
class LoadedModel:
    """A model with everything that requests need to know about it.

    Args:
        model: the family's class in eval mode with the capture attention on its text model.
        processor: its processor.
        family: what is known of models of its kind.
        facts: its shape.
        eos_ids: ids that end an answer.
        pad_id: the id that fills left padding.
        choosing: what the checkpoint says about choosing tokens, or None; see choosing.py.
        length_dependent: whether a token's keys change when the text grows longer; see probe.py.
        checks: what was tested about the model at load, for every record.
        notes: what every record of this model must say about it.
    """

    model: Any
    processor: Any
    family: Family
    facts: ModelFacts
    eos_ids: tuple[int, ...]
    pad_id: int
    choosing: GenerationConfig | None = None
    length_dependent: bool = False
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where token ids go in and logits come out."""
        return self.model.get_input_embeddings().weight.device

    @property
    def layer_devices(self) -> tuple[torch.device, ...]:
        """Where each text layer runs, and so its keys, values and captured queries; offloaded layers run at home."""
        places = (next(layer.parameters()).device for layer in self.layers)
        return tuple(self.device if place.type in ("meta", "cpu") else place for place in places)

    @property
    def layers(self) -> Any:
        """The text layers."""
        return self.family.text_model(self.model).layers

    def layout(self, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """Tokens and grids of pictures of these (width, height)."""
        return self.family.layout(self.processor, sizes_px)

    def set_attention(self, name: str) -> None:
        """Chooses the implementation of the text layers' attention."""
        self.model.set_attn_implementation({self.family.text_key: name})


@bars_on_terminals_only()
def load(folder: Path, settings: ModelSettings, *, device: str, dtype: str, cure: str = "complete it") -> LoadedModel:
    """Loads a checkpoint of the published layout; no network, no remote code.

    Args:
        folder: config.json, weights (safetensors), tokenizer and processor files.
        settings: the model's settings.
        device: "cpu", "cuda", "cuda:1", ..., or "map" to let accelerate spread the layers.
        dtype: "float32", "float16" or "bfloat16".
        cure: what to do when files are missing.

    Raises:
        SettingsError: when the folder holds no checkpoint of a known family, or one that the device cannot hold.
    """
    family, processor = check_checkpoint(folder, settings, cure)
    check_weights(family, settings, device, dtype)
    try:
        model, info = family.model_class().from_pretrained(
            folder,
            config=family.config,
            local_files_only=True,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            quantization_config=quantised_loading(family, getattr(torch, dtype), settings.quantization),
            output_loading_info=True,
            use_safetensors=True,
            **placement(settings, device),
        )
    except Exception as error:
        # The second: quantised layers that accelerate found no place for on a GPU.
        if not is_out_of_memory(error) and "dispatched on the CPU or the disk" not in str(error):
            raise
        needed = weight_bytes(family, getattr(torch, dtype), settings.quantization)
        raise too_large(needed, settings, dtype, [device_memory(place) for place in devices_of(device)]) from error
    bad = {
        kind: sorted(info[kind])[:5] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]
    }
    if bad:
        raise SettingsError(f"weights: got {bad}, expected exactly the keys of the configuration; download them again")
    return prepare(model, processor, family)


def prepare(model: Any, processor: Any, family: Family | None = None) -> LoadedModel:
    """Puts the capture on a model that is in memory already, and reads its shape.

    Args:
        model: of a class that a family names.
        processor: its processor.
        family: the model's; None looks for the family of its configuration.

    Raises:
        SettingsError: for configurations that no family takes, and for models that cannot run with the capture.
    """
    family = family or family_of(model.config)
    with as_settings_errors():
        family.check(model.config)
        family.check_processor(processor)
    register()
    model.eval()
    model.requires_grad_(False)  # methods ask for gradients of activations alone
    model.set_attn_implementation({family.text_key: CAPTURE_ATTENTION})
    if model.dtype == torch.float32:
        # The patch embedding is a convolution, and cuDNN's would round its input to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
    with as_settings_errors():
        facts = family.facts(model.dtype)
    eos = model.generation_config.eos_token_id
    eos = processor.tokenizer.eos_token_id if eos is None else eos
    eos_ids = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    choosing, notes = published(model.generation_config)
    # Beam search, which is transformers' own, reads it from the model.
    model.generation_config = choosing or GenerationConfig()
    return LoadedModel(
        model=model,
        processor=processor,
        family=family,
        facts=facts,
        eos_ids=eos_ids,
        pad_id=_pad_id(model, family.image_token_id, (processor.tokenizer.pad_token_id, *eos_ids, 0, 1)),
        choosing=choosing,
        length_dependent=_length_dependent(model, facts.context),
        notes=(*notes, *family.notes()),
    )


def _length_dependent(model: Any, context: int) -> bool:
    try:
        return rotation_depends_on_length(model, context)
    except Exception as error:
        raise SettingsError(
            f"model: got {str(error)[:160]!r} from a text of four tokens, expected a text model that runs with "
            "transformers' sdpa attention"
        ) from error


def _pad_id(model: Any, image_token_id: int, wanted: Iterable[int | None]) -> int:
    """The first id that padding may have: one that the model has an embedding for, and not a patch of the picture."""
    rows = model.get_input_embeddings().weight.shape[0]
    return next(i for i in wanted if i is not None and i < rows and i != image_token_id)
