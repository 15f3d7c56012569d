"""Models of `model_store/configs` with random weights, and stand-ins for their tokenizers with the published special
ids.

Flow: a name -> its configuration (shrunk for a rehearsal) -> random weights on a device; its image processor's settings
+ a tokenizer of bytes -> processor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llava_server.load.family import family_in
from support.tiny_checkpoints import NEVER, template

STORE = Path(__file__).resolve().parents[2] / "model_store"
_FIRST_BYTE = 1000
"""The id of the first of 256 bytes: special ids lie below it or far above."""
_LLAMA = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000, "<pad>": 32001}
_QWEN = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
_SEEN = {"<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|image_pad|>": 151655, "<|video_pad|>": 151656}
_PIXTRAL = {"[INST]": 3, "[/INST]": 4, "[IMG]": 10, "<pad>": 11, "[IMG_BREAK]": 12, "[IMG_END]": 13}
_TURN = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
SPECIAL: Mapping[str, Mapping[str, int]] = {
    "llava-1.5-13b": _LLAMA,
    "llava-v1.6-vicuna-7b": _LLAMA,
    "llava-onevision-7b": {**_QWEN, "<image>": 151646, "<video>": 151647},
    "qwen2.5-vl-7b": {**_QWEN, **_SEEN},
    "pixtral-12b": {"<unk>": 0, "<s>": 1, "</s>": 2, **_PIXTRAL},
}
"""Special tokens and their published ids, by model."""
TEMPLATES: Mapping[str, str] = {
    "llava-1.5-13b": template("USER: ", " ASSISTANT:"),
    "llava-v1.6-vicuna-7b": template("USER: ", " ASSISTANT:"),
    "llava-onevision-7b": template(*_TURN),
    "qwen2.5-vl-7b": template(*_TURN).replace("<image>\n", "<|vision_start|><|image_pad|><|vision_end|>"),
    "pixtral-12b": template("[INST]", "[/INST]").replace("<image>\n", "[IMG]"),
}


def random_model(name: str, folder: Path, device: str) -> tuple[Any, Any]:
    """Model and processor; on a CUDA device at full size in bfloat16, elsewhere shrunk and in float32.

    Args:
        name: of a folder in `model_store/configs` that `SPECIAL` has.
        folder: empty, for the processor's files.
        device: where the weights are made.
    """
    shutil.copytree(STORE / "configs" / name, folder, dirs_exist_ok=True)
    write_tokenizer(folder, SPECIAL[name])
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    family = family_in(folder, json.loads((folder / "config.json").read_text())["model_type"])
    on_gpu = device.startswith("cuda")
    if not on_gpu:
        shrink(family.config)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        model = family.model_class()._from_config(family.config, dtype=dtype).to(dtype)
    model.generation_config.eos_token_id = NEVER
    return model, family.read_processor(folder)


def shrink(config: Any) -> None:
    """The same grids, vocabulary and special ids with a few narrow layers."""
    text, vision = config.text_config, config.vision_config
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    text.update({**sizes, "num_key_value_heads": 2, "head_dim": 16})
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:3]
    if hasattr(vision, "fullatt_block_indexes"):
        vision.update({"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64})
        vision.fullatt_block_indexes = [1]
        text.rope_parameters = {**text.rope_parameters, "mrope_section": [2, 3, 3]}
    else:
        vision.update({"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2})
        vision.update({"head_dim": 16} if vision.model_type == "pixtral" else {})


def write_tokenizer(folder: Path, special: Mapping[str, int]) -> None:
    """A tokenizer of bytes and these special tokens; it begins texts with none of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {**{char: _FIRST_BYTE + i for i, char in enumerate(alphabet)}, **special}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    assert all(backend.token_to_id(name) == place for name, place in special.items())
    backend.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    if "<s>" not in special:
        roles = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", **roles, "padding_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
