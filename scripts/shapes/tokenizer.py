"""Builds the tokenizer: questions about random layouts -> byte-level BPE -> a fast tokenizer with LLaVA's specials."""

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from shapes.questions import ask_all
from shapes.scenes import COLOURS, KINDS_OF_OBJECT, SHAPES, Layout, SceneObject

IMAGE_TOKEN = "<image>"
MOST_TOKENS = 512  # positions: 64 of the image, a question, an answer, and room to spare
_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", IMAGE_TOKEN]
_VOCABULARY = 448
_LAYOUTS = 1500


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The same seed gives the same ids; a checkpoint keeps its tokenizer, since its weights mean nothing without it."""
    return wrap_pieces(train_pieces(seed))


def train_pieces(seed: int) -> Tokenizer:
    """The merges alone, learnt from questions about random layouts."""
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        min_frequency=5,
        special_tokens=_SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(random.Random(seed)), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    return bpe


def wrap_pieces(bpe: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer that transformers saves and loads; padding on the left, as generation needs it."""
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
    for word in (*COLOURS, *SHAPES):
        word_id(tokenizer, word)
    return tokenizer


def word_id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The id of a word inside a sentence; a word of two tokens would have two rows of attention, so it is refused."""
    ids = tokenizer(" " + word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ValueError(f"{word!r} takes {len(ids)} tokens, wanted 1")
    return ids[0]


def _corpus(rng: random.Random) -> list[str]:
    """Turns as the chat template renders them, about layouts with no picture behind them."""
    lines = []
    for _ in range(_LAYOUTS):
        kinds = rng.sample(KINDS_OF_OBJECT, rng.choice((2, 3, 4)))
        points = [(rng.random(), rng.random()) for _ in kinds]
        objects = tuple(SceneObject(*kind, (x, y, x, y)) for kind, (x, y) in zip(kinds, points, strict=True))
        turns = ask_all(rng, Layout(objects, 1, 1))
        lines += [f"USER: \n{turn.text} ASSISTANT: {turn.answer}" for turn in turns]
    return lines
