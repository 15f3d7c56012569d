"""Processors of several kinds of text model, without their weights: tokenizers x chat templates.

Flow: a kind's name -> `tokenizer_of` -> `processor_of` (a LlavaProcessor with 2 x 2 patches).
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from support.published import CHAT_TEMPLATE, write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "model_store" / "llava-shapes"
IMAGE_TOKENS = 4
"""Patches of a picture for the processors made here."""

_REAL_PLACES = (ROOT / "model_store" / "llava-1.5-7b", ROOT.parent / "shared" / "models" / "llava-1.5-7b-hf")
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}[INST] {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %} [/INST]"
    "{% endfor %}"
)
TRIMMED = (
    "{% for m in messages %}USER: <image>{% for part in m['content'] if part['type'] == 'text' %}"
    "{{ part['text'] | trim }}{% endfor %}\n{% endfor %}ASSISTANT:"
)
PICTURE_LAST = (
    "{% for m in messages %}User: {% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endfor %}\n<image>\n{% endfor %}Assistant:"
)
TEMPLATES = {
    "published": CHAT_TEMPLATE, "chatml": CHATML, "inst": INST, "trimmed": TRIMMED, "image last": PICTURE_LAST
}  # fmt: skip


def real_tokenizer() -> Path:
    """tokenizer.json of llava-1.5-7b; skips where it is not, because its licence keeps it out of the repository."""
    for place in _REAL_PLACES:
        if (place / "tokenizer.json").is_file():
            return place / "tokenizer.json"
    pytest.skip("llava-1.5-7b's tokenizer.json is not here: run: make download MODEL=llava-1.5-7b")


@functools.cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer.

    Args:
        kind: "shapes" (the shipped one), "stand-in" (Llama-like), "llama" and "llama-class" (the real Llama 2 one as
            its file says, and as transformers rebuilds it for the class LlamaTokenizer), "bytes" (byte-level, with
            `<|im_start|>`, which has no role), "unigram" (unknown characters become `<unk>`).
    """
    if kind == "shapes":
        return AutoTokenizer.from_pretrained(SHIPPED)
    if kind == "bytes":
        return _bytes()
    if kind == "unigram":
        return _unigram()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "stand-in":
            write_tokenizer(folder)
        else:
            shutil.copy(real_tokenizer(), folder / "tokenizer.json")
            settings = {
                **_SPECIAL, "image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"},
                "legacy": False, "add_bos_token": True, "clean_up_tokenization_spaces": False,
                "tokenizer_class": {"llama": "PreTrainedTokenizerFast", "llama-class": "LlamaTokenizer"}[kind],
            }  # fmt: skip
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return AutoTokenizer.from_pretrained(folder)


def processor_of(kind: str, template: str) -> Any:
    """A processor with the tokenizer of a kind and one of `TEMPLATES`, or another template's text."""
    side = {"height": 28, "width": 28}
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=side)
    return LlavaProcessor(
        images,
        tokenizer_of(kind),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES.get(template, template),
    )


def _bytes() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[], fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ("<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _unigram() -> PreTrainedTokenizerFast:
    words = [("<unk>", -20.0), *((f"▁{word}", -3.0) for word in ("the", "red", "What", "is"))]
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?<>/\n"
    backend = Tokenizer(models.Unigram([*words, *((char, -8.0) for char in letters)], unk_id=0))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    names = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **_SPECIAL)
