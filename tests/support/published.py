"""A small checkpoint laid out as llava-hf published the 7B: fp16 shards with an index, hub-era keys and files.

Flow: the real configuration with fewer and narrower layers -> random weights -> renamed keys -> shards + index +
stand-in tokenizer with the real special ids + legacy chat_template.json, preprocessor_config.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import LlavaConfig, LlavaForConditionalGeneration

CONFIGS = Path(__file__).resolve().parents[2] / "model_store" / "configs" / "llava-1.5-7b"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""What the model's chat template renders: `USER: <image>` + newline + text + ` ASSISTANT:`."""

_PUBLISHED = {"▁US": 3148, "ER": 1001, ":": 29901, "▁": 29871, "▁A": 319, "SS": 1799, "IST": 9047, "ANT": 13566}
"""The template's own words as the published tokenizer has them: `USER: <image>` is 1 3148 1001 29901 29871 32000."""
_WORDS = ("▁the", "▁image", "▁What", "▁is", "▁in", "▁a", "▁red", "▁circle", "▁US", "ER", "▁A", "SS", "IST", "ANT")


def hub_key(key: str) -> str:
    """A parameter's name as the published shards spell it."""
    if key.startswith("model.language_model."):
        return "language_model.model." + key.removeprefix("model.language_model.")
    if key.startswith("lm_head."):
        return "language_model." + key
    if key.startswith("model.vision_tower."):
        return "vision_tower.vision_model." + key.removeprefix("model.vision_tower.").removeprefix("vision_model.")
    return key.removeprefix("model.")


def small_config() -> LlavaConfig:
    """The real configuration, real grid and vocabulary, with 4 narrow text layers and 3 narrow vision layers."""
    config = LlavaConfig.from_pretrained(CONFIGS)
    config.text_config.update(
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 4, "head_dim": 16}
    )  # fmt: skip
    config.vision_config.update(
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    )
    return config


def write_tokenizer(folder: Path) -> None:
    """A Llama-2-like tokenizer.json: bos 1, eos 2, `<image>` 32000, pad 32001, byte fallback, 32,002 entries."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **_PUBLISHED}
    free = iter(sorted({*range(32000)} - {*vocab.values()}))
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = next(free)
    for char in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;?!'-":
        vocab[char] = next(free)
    merges = []
    for word in _WORDS:
        for end in range(2, len(word) + 1):
            if (merge := (word[: end - 1], word[end - 1])) not in merges:
                merges.append(merge)
                if word[:end] not in vocab:
                    vocab[word[:end]] = next(free)
    for left in free:
        vocab[f"▁unused{left}"] = left
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>", "<image>", "<pad>")]
    )
    assert [tokenizer.token_to_id(t) for t in ("<s>", "</s>", "<image>", "<pad>")] == [1, 2, 32000, 32001]
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"},
        "padding_side": "left", "model_max_length": 4096, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_files(folder: Path, config: LlavaConfig) -> None:
    """Everything beside the weights: config, generation config, processor files, legacy chat template, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("preprocessor_config.json", "processor_config.json"):
        shutil.copy(CONFIGS / name, folder / name)
    config.save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001})
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    write_tokenizer(folder)


def write_checkpoint(folder: Path, shards: int = 3) -> LlavaForConditionalGeneration:
    """Writes the whole checkpoint and returns the float32 model whose weights it holds, rounded to fp16."""
    config = small_config()
    torch.manual_seed(11)
    model = LlavaForConditionalGeneration(config).float().eval()
    write_files(folder, config)
    state = {hub_key(key): value.half().contiguous() for key, value in model.state_dict().items()}
    names = sorted(state)
    index: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    total = sum(value.numel() * 2 for value in state.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model
