"""What tests of methods share: questions to an engine, the model's own eager pass over an answer, reference values.

Flow: a record of the engine -> one teacher-forced forward of transformers' eager model over the same tokens -> the
attention rows of the answer, and the values of the patches, made by hand from hidden states.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from shapes.sightings import Item, held_out

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERY_HEAD = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 24}
REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "methods.json").read_text("utf-8"))
"""Argmax, maximum and sum of maps of five answers, made by a program that shares no code with the server."""


def ask(engine: Engine, pictures: list[bytes], options: dict[str, Any], prompts: list[str] = PROMPTS) -> list[Record]:
    """One record per picture, asked together."""
    requests = [GenerateRequest.build(p, q, options) for p, q in zip(pictures, prompts, strict=False)]
    return records(engine.run(requests))


def records(results: list[Any]) -> list[Record]:
    """The results of an engine, none of which may be a refusal."""
    assert all(isinstance(result, Record) for result in results), results
    return results


def flat(record: Record) -> np.ndarray:
    """The maps of a record's one view, [row, ..., patch]."""
    [view] = record.views.values()
    return view.patches_float()


def close(ours: np.ndarray, theirs: np.ndarray, relative: float = 1e-5) -> None:
    """Refuses maps that differ by more than a part of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, atol=relative * float(np.abs(theirs).max()), rtol=0)


def same_in_every_way(
    engine: Engine, static: Engine, pictures: list[bytes], options: dict[str, Any], relative: float = 1e-5
) -> None:
    """Maps of a batch equal those of each request alone, of a replay, and of decoding on static buffers."""
    together = ask(engine, pictures, options)
    assert len({len(record.tokens) for record in together}) > 1, "answers must differ in length"
    replays = [GenerateRequest.replay(one, _given(options), p) for one, p in zip(together, pictures, strict=True)]
    alone = [ask(engine, [p], options, [q])[0] for p, q in zip(pictures, PROMPTS, strict=True)]
    buffered = ask(static, pictures, options)
    assert buffered[0].run["decoder"] in ("static", "compiled")
    for others in (alone, records(engine.run(replays)), buffered):
        for one, other in zip(together, others, strict=True):
            assert [token.id for token in one.tokens] == [token.id for token in other.tokens]
            close(flat(other), flat(one), relative)


def same_in_half_precision(half: Engine, engine: Engine, pictures: list[bytes], options: dict[str, Any]) -> None:
    """Maps of the same answers on a bfloat16 model point alike and correlate."""
    exact = ask(engine, pictures, options)
    again = half.run([GenerateRequest.replay(one, _given(options), p) for one, p in zip(exact, pictures, strict=True)])
    for one, other in zip(records(again), exact, strict=True):
        assert np.corrcoef(flat(one).ravel(), flat(other).ravel())[0, 1] > 0.99
        assert np.abs(flat(one) - flat(other)).max() < 0.1 * np.abs(flat(other)).max()


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a replay, which has its answer."""
    return {name: value for name, value in options.items() if name != "max_new_tokens"}


@dataclass(frozen=True)
class Pass:
    """Transformers' own eager forward over prompt and answer.

    Args:
        attention: [row, layer, head, key] of the rows that predicted the answer's tokens.
        image: [key] bool, which keys are patches.
        hidden: per layer [position, width], what went into it.
        logits: [row, vocabulary].
    """

    attention: torch.Tensor
    image: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    logits: torch.Tensor

    @property
    def patches(self) -> torch.Tensor:
        """[row, layer, head, patch]."""
        return self.attention[..., self.image]


@torch.no_grad()
def eager_pass(model: Any, processor: Any, picture: bytes, record: Record) -> Pass:
    """One forward with output_attentions and output_hidden_states over what the record says was read and written."""
    prompt = processor_inputs(processor, [picture], [record.facts.prompt.text])
    assert prompt["input_ids"][0].tolist() == list(record.facts.prompt.ids)
    answer = torch.tensor([[token.id for token in record.tokens]])
    ids = torch.cat([prompt["input_ids"], answer[:, :-1]], 1)
    out = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=prompt["pixel_values"],
        use_cache=False, output_attentions=True, output_hidden_states=True,
    )  # fmt: skip
    first = prompt["input_ids"].shape[1] - 1
    attention = torch.stack([layer[0, :, first:] for layer in out.attentions]).permute(2, 0, 1, 3)
    image = ids[0] == model.config.image_token_id
    return Pass(attention, image, tuple(layer[0] for layer in out.hidden_states), out.logits[0, first:])


def asked_of_scenes(count: int, seed: int = 71_001, of: int | None = None) -> list[Item]:
    """The questions about the first `count` of `of` held-out scenes."""
    items = held_out(seed, of or count)
    scenes = list(dict.fromkeys(id(item.scene) for item in items))[:count]
    return [item for item in items if id(item.scene) in scenes]


def png(item: Item) -> bytes:
    """The picture of a scene as a file."""
    buffer = io.BytesIO()
    item.scene.image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def check_reference(engine: Engine, method: str) -> None:
    """Maps of the five answers have the argmax, the maximum and the sum that the reference values say."""
    scenes = REFERENCE["scenes"]
    items = {item.question.text: item for item in asked_of_scenes(1, scenes["seed"], scenes["count"])}
    for wanted in REFERENCE["items"]:
        item = items[wanted["question"]]
        view = {"method": method, "layers": "all", "heads": "all", "reduction": "layers_heads", "precision": "float32"}
        [record] = ask(engine, [png(item)], {**view, "max_new_tokens": 48}, [item.question.text])
        assert record.answer == wanted["answer"]
        for token in wanted["tokens"]:
            assert record.tokens[token["step"]].text == token["text"]
            found, (argmax, largest, total) = flat(record)[token["step"]], token[method]
            assert int(found.argmax()) == argmax
            np.testing.assert_allclose([found.max(), found.sum()], [largest, total], atol=1e-4, rtol=0)
