"""A whole LLaVA with random weights at a published configuration, with a processor that needs no download.

Flow: configuration -> random weights on the device -> a tokenizer of single characters with the configuration's special
ids -> model and processor. It answers nonsense, at the real speed and in the real memory.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from bench.parts.text_model import intermediate_of
from servekit.paths import MODEL_STORE

CONFIGS = MODEL_STORE / "configs"
_SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2}
_CHAT_TEMPLATE = (
    "USER: <image>\n{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def random_llava(config: LlavaConfig, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """Model and processor.

    Args:
        config: with image tokens at `config.image_token_id`.
        dtype: of the weights.
        device: where they are made.
    """
    torch.manual_seed(0)
    with device:
        model = LlavaForConditionalGeneration._from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        # A logit of exactly 0 is never the largest of thousands: no answer ends before its limit.
        model.lm_head.weight[_SPECIAL["</s>"]] = 0
    model.generation_config.eos_token_id = _SPECIAL["</s>"]
    vision = config.vision_config
    side = {"height": vision.image_size, "width": vision.image_size}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": vision.image_size}, crop_size=side),
        tokenizer=_tokenizer(config),
        patch_size=vision.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=_CHAT_TEMPLATE,
        image_token="<image>",
    )
    return model, processor


def published(name: str) -> LlavaConfig:
    """A configuration of model_store/configs."""
    return LlavaConfig.from_pretrained(CONFIGS / name, local_files_only=True)


def shrunk(config: LlavaConfig) -> LlavaConfig:
    """The same grid, vocabulary and special ids with four narrow text layers and three narrow vision layers."""
    return _with_sizes(config, width=256, heads=8, layers=4, intermediate=384)


def reshaped(config: LlavaConfig, shape: str) -> LlavaConfig:
    """The same grid, vocabulary and special ids with a text model of another shape and three narrow vision layers.

    Args:
        config: is changed.
        shape: "width x heads x layers" as `text_model` takes it, such as "2048x16x6".
    """
    width, heads, layers = (int(part) for part in shape.split("x"))
    return _with_sizes(config, width, heads, layers, intermediate_of(width))


def _with_sizes(config: LlavaConfig, width: int, heads: int, layers: int, intermediate: int) -> LlavaConfig:
    config.text_config.update(
        {
            "hidden_size": width,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": width // heads,
        }
    )
    config.vision_config.update(
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    )
    return config


def rehearsal(config: LlavaConfig) -> LlavaConfig:
    """The configuration shrunk further, with 6 x 6 patches: the same code in seconds on a CPU."""
    config = shrunk(config)
    config.vision_config.image_size = 84
    config.image_seq_length = 36
    return config


def _tokenizer(config: LlavaConfig) -> PreTrainedTokenizerFast:
    """Ids 0 to 2 and the image token as the configuration has them, then characters, then words that nobody types."""
    image, size = config.image_token_id, config.text_config.vocab_size
    vocab = {**_SPECIAL, "<image>": image, "<pad>": image + 1}
    taken = set(vocab.values())
    free = (i for i in range(size) if i not in taken)
    vocab |= dict(zip((chr(code) for code in (10, *range(32, 127))), free, strict=False))
    vocab |= {f"w{i}": i for i in free}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", _SPECIAL["<s>"])])
    names = (*_SPECIAL, "<image>", "<pad>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )
