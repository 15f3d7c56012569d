"""Tiny random checkpoints of published families: their files and key names, image sizes and patches, few and narrow
layers.

Flow: text and vision configurations + tokenizer + processor -> weights of ordinary size, so that layers, heads and
patches all differ -> a folder as the hub has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from support.published import hub_key

LAYERS, HEADS, WIDTH = 2, 4, 64
BOS_ID, PAD_ID, IMAGE_ID = 256, 258, 259
NEVER = 1_000_000
"""An end of sequence outside of every vocabulary: random models would end at random."""


def text(kind: Callable[..., Any], **more: Any) -> Any:
    """A text model's configuration for the vocabulary of `tokenizer`."""
    shape = {
        "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": 2, "head_dim": WIDTH // HEADS, "vocab_size": 320, "max_position_embeddings": 8192,
        "bos_token_id": BOS_ID, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    return kind(**{**shape, **more})


def clip(side: int = 336, layers: int = 2) -> Any:
    """A CLIP tower; LLaVA's has patches of 14 px."""
    return tf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=2, image_size=side,
        patch_size=14, projection_dim=32,
    )  # fmt: skip


def siglip(side: int = 384, layers: int = 2) -> Any:
    """A SigLIP tower: no class token, and a remainder of the picture in no patch."""
    return tf.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=2, image_size=side,
        patch_size=14, vision_use_head=False,
    )  # fmt: skip


def tokenizer(*special: str, bos: bool = True) -> Any:
    """256 bytes, `<s>` 256, `</s>`, `<pad>`, `<image>` 259, and more special tokens; `bos`: it begins every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[], fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ("<s>", "</s>", "<pad>", "<image>", *special)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS_ID)])
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left"
    )


def template(before: str, after: str) -> str:
    """A chat template of one turn: `before`, the pictures with a line break each, the question, `after`."""
    kinds = "part in m['content'] | selectattr('type', 'equalto', '{}')"
    images, texts = kinds.format("image"), kinds.format("text")
    parts = f"{{% for {images} %}}<image>\n{{% endfor %}}{{% for {texts} %}}{{{{ part['text'] }}}}{{% endfor %}}"
    return f"{{% for m in messages %}}{before}{parts}{after}{{% endfor %}}"


def clip_processor(chat_template: str, *special: str) -> Any:
    """LLaVA-1.5's: shortest edge 336, centre crop."""
    images = tf.CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return tf.LlavaProcessor(
        images, tokenizer(*special), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=chat_template,
    )  # fmt: skip


def pictures_only(kind: Any, images: Any, words: Any, **more: Any) -> Any:
    """A processor of transformers whose part for videos, which needs torchvision, is left out."""

    class Pictures(kind):  # type: ignore[misc]
        def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
            return type(argument)

        def save_pretrained(self, folder: Path) -> None:
            images.save_pretrained(folder)
            words.save_pretrained(folder)
            stated = {"processor_class": kind.__name__, **{k: v for k, v in more.items() if k != "chat_template"}}
            (folder / "processor_config.json").write_text(json.dumps(stated))
            (folder / "chat_template.jinja").write_text(more["chat_template"])

    return Pictures(image_processor=images, tokenizer=words, **more)


def write(folder: Path, config: Any, processor: Any, spelt: Callable[[str], str] = hub_key) -> Path:
    """A checkpoint folder with keys as the hub's weights spell them.

    Args:
        folder: does not exist yet.
        config: of the whole model.
        processor: with a chat template.
        spelt: a parameter's name as the published shards spell it.
    """
    torch.manual_seed(11)
    model = lively(tf.AutoModelForImageTextToText.from_config(config).float())
    folder.mkdir(parents=True)
    state = {spelt(key): value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": NEVER, "pad_token_id": PAD_ID}))
    return folder


def lively(model: Any) -> Any:
    """The same model with random weights of ordinary size, biases and norms included, and attention that is sharp."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "embed_tokens" in name or "newline" in name:
                weight.copy_(noise)
            elif weight.ndim == 1:
                weight.copy_(0.2 * noise + (0 if name.endswith("bias") else 1))
            else:
                wide = 1.5 if "q_proj" in name or "k_proj" in name else 1
                weight.copy_(wide * noise * (weight.numel() / weight.shape[0]) ** -0.5)
    return model
