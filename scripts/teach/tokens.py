"""Builds the tokenizer: a world's questions -> byte-level BPE -> a fast tokenizer with LLaVA's special tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from teach.world import World

IMAGE_TOKEN = "<image>"
MOST_TOKENS = 512
"""Positions: those of the image, a question, an answer, and room to spare."""
_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", IMAGE_TOKEN]


def train_pieces(world: World, seed: int) -> Tokenizer:
    """The merges alone; the same seed gives the same ids."""
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=world.vocabulary,
        min_frequency=5,
        special_tokens=_SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = (f"USER: \n{turn.text} ASSISTANT: {turn.answer}" for turn in world.corpus(random.Random(seed)))
    bpe.train_from_iterator(lines, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    return bpe


def wrap_pieces(bpe: Tokenizer, words: Sequence[str]) -> PreTrainedTokenizerFast:
    """The tokenizer that transformers saves and loads; padding on the left, as generation needs it.

    Raises:
        ValueError: one of the words is not one token.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        padding_side="left",
        model_max_length=MOST_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    for word in words:
        word_id(tokenizer, word)
    return tokenizer


def word_id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The id of a word inside a sentence; a word of two tokens would have two rows of attention, so it is refused."""
    ids = tokenizer(" " + word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ValueError(f"{word!r} takes {len(ids)} tokens, wanted 1")
    return int(ids[0])
