"""The small LLaVA's parts: tokenizer -> processor and an untrained `LlavaForConditionalGeneration`, both unmodified."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from teach.tokens import IMAGE_TOKEN, MOST_TOKENS
from teach.world import World

FEATURE_LAYER = -2

# LLaVA-1.5's own template, kept beside this file: what the 7B model is asked with, the small one is asked with.
CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


def build_processor(world: World, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Resize the short side, crop the centre. The backend is named: the other one's pixels differ slightly."""
    side = world.seen_px
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=tokenizer,
        patch_size=world.patch_px,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token; with 0 the processor would expect one image token less
        chat_template=CHAT_TEMPLATE,
    )


def build_model(world: World, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A model of the world's size, float32, on the CPU, from torch's random state."""
    vision = CLIPVisionConfig(
        hidden_size=world.widths[0],
        intermediate_size=3 * world.widths[0],
        num_hidden_layers=world.layers[0],
        num_attention_heads=world.heads[0],
        image_size=world.seen_px,
        patch_size=world.patch_px,
        projection_dim=world.widths[0],
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=world.widths[1],
        intermediate_size=round(world.widths[1] * 2.6875),
        num_hidden_layers=world.layers[1],
        num_attention_heads=world.heads[1],
        num_key_value_heads=world.heads[1],
        max_position_embeddings=MOST_TOKENS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
            image_seq_length=(world.seen_px // world.patch_px) ** 2,
            vision_feature_layer=FEATURE_LAYER,
            vision_feature_select_strategy="default",
        )
    )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    return model
