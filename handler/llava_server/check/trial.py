"""Random prompts around random pictures, which the self-test at load runs.

Flow: sizes of pictures -> the family's layout and inputs for pictures of noise -> a `BatchItem` that asks for all
layers and heads, of answer and question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image as PillowImage

from llava_server.ask.options import Options
from llava_server.ask.plan import Plan, ViewPlan
from llava_server.load.loading import LoadedModel
from llava_server.read.images import PreparedImages
from llava_server.read.placing import placed
from llava_server.read.plaintext import special_ids
from llava_server.read.prompt import EncodedPrompt
from llava_server.run.batch import BatchItem
from llava_wire.reduction import REDUCTIONS
from llava_wire.schema import Image

NEW_TOKENS = 5
SEED = 20250711
_QUESTION_ROWS = 6
_SIZES_PX = ((320, 240), (150, 200))
"""Of the pictures: the second where a prompt may hold two."""
_BLOCK_PX = 8
_PLACEHOLDER = -1
"""An id that no token has."""


def trial_item(loaded: LoadedModel, text: int, number: int, sizes_px: Sequence[tuple[int, int]] = ()) -> BatchItem:
    """Random text of so many tokens around random pictures, all layers and heads, answer and question rows.

    Args:
        loaded: the model.
        text: tokens.
        number: another one makes other text and pictures.
        sizes_px: of the pictures; those of `trial_sizes` where none are given.
    """
    facts, family = loaded.facts, loaded.family
    every = ViewPlan("every", REDUCTIONS["none"], tuple(range(facts.layers)), tuple(range(facts.heads)))
    words = trial_text(loaded, text, SEED + number)
    before = min(4, len(words))
    generator = np.random.default_rng(SEED + number)
    sizes = sizes_px or trial_sizes(loaded)
    pictures = [_noise(generator, size) for size in sizes]
    layout = loaded.layout(sizes)
    # A word between pictures: some models take tokens of pictures that touch for those of one.
    between = words[before : before + len(sizes) - 1]
    held = [_PLACEHOLDER, *(one for i in range(1, len(sizes)) for one in (*between[i - 1 : i], _PLACEHOLDER))]
    rest = words[before + len(between) :]
    there = placed((*words[:before], *held, *rest), _PLACEHOLDER, family.image_token_id, layout)
    own = [*there.moved[before + len(held) : -1]] or [0]
    spread = np.linspace(0, len(own) - 1, min(_QUESTION_ROWS, len(own))).astype(int)
    prompt = EncodedPrompt(
        text="",
        rendered="",
        ids=there.ids,
        patches=there.patches,
        filled=there.filled,
        question=tuple(dict.fromkeys(own[i] for i in spread)),
        separators=there.separators,
    )
    images = PreparedImages(family.inputs(loaded.processor, pictures), layout, (Image(1, 1, "", ""),) * len(sizes))
    return BatchItem(images, prompt, Plan(Options(max_new_tokens=NEW_TOKENS, rows="both"), (every,), 0), float("inf"))


def trial_sizes(loaded: LoadedModel) -> list[tuple[int, int]]:
    """The sizes of the test's pictures: two where the model takes several."""
    return list(_SIZES_PX if loaded.family.several else _SIZES_PX[:1])


def _noise(generator: np.random.Generator, size_px: tuple[int, int]) -> PillowImage.Image:
    """A picture of random colours in blocks of some px, so that its patches differ however it is scaled."""
    width, height = size_px
    colours = generator.integers(0, 256, (-(-height // _BLOCK_PX), -(-width // _BLOCK_PX), 3), dtype=np.uint8)
    return PillowImage.fromarray(colours).resize(size_px, PillowImage.Resampling.NEAREST)


def trial_text(loaded: LoadedModel, count: int, seed: int) -> tuple[int, ...]:
    """Random ordinary token ids, the start of sequence first where the tokenizer has one."""
    tokenizer = loaded.processor.tokenizer
    special = {*special_ids(tokenizer), loaded.family.image_token_id, loaded.pad_id}
    size = min(len(tokenizer), loaded.model.get_input_embeddings().weight.shape[0])
    ordinary = [i for i in range(size) if i not in special]
    drawn = torch.randint(len(ordinary), (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return tuple([*first, *(ordinary[i] for i in drawn)][:count])
