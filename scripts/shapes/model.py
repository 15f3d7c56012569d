"""The small LLaVA's parts: tokenizer -> processor and an untrained `LlavaForConditionalGeneration`, both unmodified."""

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

from shapes.tokenizer import IMAGE_TOKEN, MOST_TOKENS

SEEN_SIDE_PX = 96
PATCH_PX = 12
GRID = SEEN_SIDE_PX // PATCH_PX
FEATURE_LAYER = -2
_WIDTH = 128

# LLaVA-1.5's own template, kept beside this file: what the 7B model is asked with, the small one is asked with.
CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Resize the short side, crop the centre. The backend is named: the other one's pixels differ slightly."""
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": SEEN_SIDE_PX}, crop_size={"height": SEEN_SIDE_PX, "width": SEEN_SIDE_PX}
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token; with 0 the processor would expect 63 image tokens
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """1.65 million parameters, float32, on the CPU, from torch's random state."""
    vision = CLIPVisionConfig(
        hidden_size=_WIDTH,
        intermediate_size=3 * _WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SEEN_SIDE_PX,
        patch_size=PATCH_PX,
        projection_dim=_WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=MOST_TOKENS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=GRID * GRID,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
