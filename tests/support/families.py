"""Tiny random LLaVAs on text models of many families, with the shipped model's tokenizer, pictures and vision tower.

Flow: a family's name -> its text configuration, small -> `LlavaForConditionalGeneration` with weights that make
attention sharp -> model and processor in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

STORE = Path(__file__).resolve().parents[2] / "model_store"
LAYERS, HEADS, KV_HEADS, WIDTH = 2, 4, 2, 32
NEVER = 1_000_000
"""An end of sequence outside of every vocabulary: random models would end at random."""


def text_model(kind: Callable[..., Any], **more: Any) -> Callable[[int], Any]:
    def build(vocabulary: int) -> Any:
        shape = {
            "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": WIDTH // HEADS,
            "max_position_embeddings": 640, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
        }  # fmt: skip
        return kind(**{**shape, **more})

    return build


_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
WORKING: dict[str, Callable[[int], Any]] = {
    "llama": text_model(tf.LlamaConfig),
    "mistral, window": text_model(tf.MistralConfig, sliding_window=34),
    "mixtral, window": text_model(tf.MixtralConfig, sliding_window=34, **_EXPERTS),
    "phi3, window": text_model(tf.Phi3Config, sliding_window=34),
    "starcoder2, window": text_model(tf.Starcoder2Config, sliding_window=34),
    "qwen2, window in one layer": text_model(
        tf.Qwen2Config, use_sliding_window=True, sliding_window=34, layer_types=["full_attention", "sliding_attention"]
    ),
    "qwen3": text_model(tf.Qwen3Config),
    "gemma": text_model(tf.GemmaConfig),
    "granite": text_model(tf.GraniteConfig, attention_multiplier=0.25, embedding_multiplier=3.0),
    "gpt-neox": text_model(tf.GPTNeoXConfig, num_key_value_heads=HEADS),
}
"""Families whose maps the engine shows, windows included."""
REFUSED: dict[str, Callable[[int], Any]] = {
    "gpt-oss, sinks": text_model(
        tf.GptOssConfig, sliding_window=34, layer_types=["sliding_attention", "full_attention"], **_EXPERTS
    ),
    "gemma 2, soft cap": text_model(
        tf.Gemma2Config, sliding_window=34, query_pre_attn_scalar=8, attn_logit_softcapping=5.0
    ),
    "deepseek-v3, latent cache": text_model(
        tf.DeepseekV3Config, num_key_value_heads=HEADS, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4,
        qk_nope_head_dim=4, v_head_dim=8, n_routed_experts=2, n_group=1, topk_group=1, num_experts_per_tok=1,
        moe_intermediate_size=16, first_k_dense_replace=1,
    ),
}  # fmt: skip
"""Families whose attention is something else."""


def tiny_llava(text_of: Callable[[int], Any], sharp: float = 4.0, **vision: Any) -> tuple[Any, Any]:
    """A model and its processor; `sharp` widens the weights that make queries and keys."""
    processor = tf.AutoProcessor.from_pretrained(STORE / "llava-shapes", backend="pil")
    config = tf.LlavaConfig.from_pretrained(STORE / "llava-shapes")
    config.text_config = text_of(config.text_config.vocab_size)
    config.vision_config.update({"num_hidden_layers": 2, **vision})
    torch.manual_seed(3)
    model = tf.LlavaForConditionalGeneration(config).float().eval()
    model.generation_config.eos_token_id = [NEVER]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(
                part in name for part in ("q_proj", "k_proj", "qkv_proj", "query_key_value", "q_b_proj", "kv_b_proj")
            ):
                weight.mul_(sharp)
            if "sinks" in name:
                weight.fill_(2.0)
    return model, processor


def lively(model: Any) -> Any:
    """The same text model with weights of ordinary size: layers, biases and norms that all change its logits."""
    generator = torch.Generator().manual_seed(5)
    named = [*model.get_decoder().named_parameters(), *model.get_output_embeddings().named_parameters()]
    with torch.no_grad():
        for name, weight in named:
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif weight.ndim == 1:
                weight.add_(0.2 * noise)
            elif "embed" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * weight.shape[-1] ** -0.5)
    return model
