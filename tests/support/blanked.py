"""An answer run again with other image tokens, slowly and by transformers' own model in float64: one forward at a time.

Flow: record + image -> embeddings of prompt and answer as the model itself makes them -> image tokens put in their
places -> log p of each word of the answer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from integration.reference import processor_inputs
from llava_server.engine import Engine
from llava_server.run.batch import BatchItem
from llava_wire import Record


@dataclass(frozen=True)
class Answered:
    """One answer.

    Args:
        run: embeddings [1, position, width] -> logits [position, vocabulary].
        embeddings: [position, width] float64.
        places: [patch] int64, the positions of the patches.
        words: [row] int64, the answer's tokens.
        first: the position that predicts the first of them.
    """

    run: Callable[[torch.Tensor], torch.Tensor]
    embeddings: torch.Tensor
    places: torch.Tensor
    words: torch.Tensor
    first: int

    @property
    def image(self) -> torch.Tensor:
        """[patch, width]: the image tokens of the patches."""
        return self.embeddings[self.places]

    def log_probs(self, image: torch.Tensor) -> torch.Tensor:
        """[row]: log p of each word with these image tokens [patch, width]."""
        given = self.embeddings.clone()
        given[self.places] = image
        logits = self.run(given[None])[self.first : self.first + len(self.words)]
        return logits.log_softmax(-1)[torch.arange(len(self.words)), self.words]


def answered(model: Any, processor: Any, picture: bytes, record: Record) -> Answered:
    """An answer of a LLaVA.

    Args:
        model: transformers' own, eager.
    """
    exact = copy.deepcopy(model).double().requires_grad_(False)
    prompt = processor_inputs(processor, [picture], [record.facts.prompt.text])
    words = torch.tensor([token.id for token in record.tokens])
    ids = torch.cat([prompt["input_ids"][0], words[:-1]])
    places = (ids == model.config.image_token_id).nonzero()[:, 0]
    found = exact.get_image_features(pixel_values=prompt["pixel_values"].double())
    embeddings = exact.get_input_embeddings()(ids)
    embeddings[places] = _tokens(found)

    def run(given: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = exact(inputs_embeds=given, use_cache=False).logits[0]
        return logits

    return Answered(run, embeddings, places, words, prompt["input_ids"].shape[1] - 1)


def answered_by(engine: Engine, item: BatchItem, record: Record) -> Answered:
    """An answer of a model of the toy family, whose images have several grids and positions three axes."""
    exact = copy.deepcopy(engine.loaded.model).double().requires_grad_(False)
    exact.set_attn_implementation("eager")
    words = torch.tensor([token.id for token in record.tokens])
    ids = torch.cat([torch.tensor(item.prompt.ids), words[:-1]])
    embeddings = exact.get_input_embeddings()(ids)
    features = engine.loaded.family.features(
        exact, {**item.images.inputs, "patches": item.images.inputs["patches"].double()}
    )
    embeddings[torch.tensor(item.prompt.filled)] = features
    prompt = engine.loaded.family.positions(item.prompt.ids, item.images.inputs)
    after = int(prompt.max()) + 1 + torch.arange(len(words) - 1).expand(len(prompt), -1)
    positions = torch.cat([prompt, after], 1)[:, None]

    def run(given: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = exact(inputs_embeds=given, position_ids=positions, use_cache=False).logits[0]
        return logits

    return Answered(run, embeddings, torch.tensor(item.prompt.patches), words, len(item.prompt.ids) - 1)


def near(ours: np.ndarray, exact: np.ndarray) -> None:
    """Refuses differences of log probabilities that float32 does not explain: one near 0 is made of two near 20."""
    assert ours.shape == exact.shape
    largest = np.abs(exact).max()
    assert largest > 1e-4
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-4 * largest + 4e-6)


def _tokens(found: Any) -> torch.Tensor:
    """[token, width] of what `get_image_features` gives, which is a list, a tensor or an output by version."""
    one = getattr(found, "pooler_output", found)
    one = one[0] if isinstance(one, list | tuple) or one.dim() == 3 else one
    return one
