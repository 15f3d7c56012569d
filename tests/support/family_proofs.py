"""What a family must show with a tiny checkpoint: rows, tokens and methods, against transformers' own code.

Flow: a checkpoint folder -> the engine, and transformers' own eager model and processor -> the same questions to both.
`family_places` has what it must show of its grids.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from PIL import Image

from llava_doors.door import METHODS, Declaration
from llava_doors.proved import proved_for
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.run.static import StaticDecoder
from llava_wire import Record
from support.tiny_checkpoints import BOS_ID

Asked = tuple[Sequence[bytes], str]
"""Pictures and a question about them."""

STEPS = 4
VIEW = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}
WORDS = {"name": "words", "method": "text_attention", "layers": "all", "heads": "all"}
BOTH = {
    "views": [{"name": "maps", "layers": "all", "heads": "all", "reduction": "none"}, WORDS],
    "precision": "float32",
}
ROW_LIMIT = 3e-6
OTHER_DEVICE_LIMIT = 1e-5
"""Of rows that another device made than the eager ones, in float32 too: its kernels sum in another order."""
_MARK = "\x01"
"""A text that stands in no template and no question."""


@dataclass(frozen=True)
class Proof:
    """One checkpoint, loaded by the engine, and by transformers on the CPU.

    Args:
        row_limit: the largest allowed difference of a row of the engine from transformers' own.
    """

    engine: Engine
    eager: Any
    processor: Any
    row_limit: float = ROW_LIMIT

    @classmethod
    def of(cls, folder: Path, name: str = "tiny", processor: Any = None, device: str = "cpu") -> Proof:
        """Loads a folder in float32; the engine runs its self-test.

        Args:
            processor: transformers' own, where it cannot be loaded from the folder without torchvision.
            device: the engine's; transformers' model is on the CPU.
        """
        eager = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        processor = processor or tf.AutoProcessor.from_pretrained(folder, backend="pil")
        settings = {"name": name, "check": []}
        engine = Engine.load(folder, settings=settings, device=device, dtype="float32")
        return cls(engine, eager.eval(), processor, ROW_LIMIT if device == "cpu" else OTHER_DEVICE_LIMIT)

    @property
    def image_text(self) -> str:
        """The token that stands for a picture."""
        return str(self.processor.tokenizer.convert_ids_to_tokens(self.eager.config.image_token_id))


@dataclass(frozen=True)
class Expected:
    """One question to transformers' eager model, alone.

    Args:
        prompt: the processor's ids.
        images: positions in them of all that the processor writes for images.
        answer: greedy ids.
        rows: [step, layer, head, key] of the rows that predicted them, step 0 the prefill's last.
    """

    prompt: list[int]
    images: list[int]
    answer: list[int]
    rows: np.ndarray


@torch.no_grad()
def expected(proof: Proof, asked: Asked, steps: int = STEPS, **choosing: Any) -> Expected:
    """`generate(output_attentions=True)` on what the processor makes of pictures and question.

    Args:
        choosing: further arguments of `generate`; rows after an end of sequence are zero.
    """
    pictures, question = asked
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
    rendered = proof.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = [Image.open(io.BytesIO(one)).convert("RGB") for one in pictures]
    inputs = proof.processor(text=[rendered], images=[images], return_tensors="pt")
    output = proof.eager.generate(
        **inputs,
        max_new_tokens=steps,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
        **choosing,
    )
    length = inputs["input_ids"].shape[1]
    rows = np.zeros(
        (steps, len(output.attentions[0]), output.attentions[0][0].shape[1], length + steps - 1), np.float32
    )
    for step, layers in enumerate(output.attentions):
        for number, layer in enumerate(layers):  # [1, head, row, key]; of a window the last keys alone
            seen, keys = layer[0, :, -1].numpy(), length + step
            rows[step, number, :, keys - seen.shape[-1] : keys] = seen
    ids = inputs["input_ids"][0].tolist()
    places = image_places(proof, rendered, images)
    assert max(places) < length
    return Expected(ids, places, output.sequences[0, length:].tolist(), rows)


def image_places(proof: Proof, rendered: str, images: Sequence[Image.Image]) -> list[int]:
    """Positions in a prompt's ids of all that the processor writes for its images: patches and what is none."""
    words, marked = proof.processor.tokenizer, proof.image_text + _MARK
    [mark] = words(_MARK, add_special_tokens=False)["input_ids"]
    made = proof.processor(text=[marked * len(images)], images=[[*images]], return_tensors="pt")
    ends = [i for i, one in enumerate(made["input_ids"][0].tolist()) if one == mark]
    begins = len(words(marked)["input_ids"]) - 2  # what a tokenizer puts before each text
    counts = [end - start for start, end in zip([begins, *(end + 1 for end in ends)], ends, strict=False)]
    places: list[int] = []
    at = 0
    for one in words(rendered)["input_ids"]:
        is_image = one == proof.eager.config.image_token_id
        count = counts.pop(0) if is_image else 1
        places += range(at, at + count) if is_image else ()
        at += count
    assert counts == []
    return places


def check_rows(proof: Proof, questions: Sequence[Asked], *, streamed: int = 0) -> list[Record]:
    """Answers in one padded batch, alone, replayed, and one streamed, each held against `expected`; gives the batch's.

    Args:
        questions: of different lengths, so that the batch is padded.
        streamed: which is streamed too.
    """
    wanted = [expected(proof, asked) for asked in questions]
    assert len({len(one.prompt) for one in wanted}) == len(wanted)
    requests = [GenerateRequest.build([*p], q, {**BOTH, "max_new_tokens": STEPS}) for p, q in questions]
    together = records(proof.engine.run(requests))
    assert {one.run["batch_size"] for one in together} == {len(questions)}
    alone = [records(proof.engine.run([request]))[0] for request in requests]
    replays = [GenerateRequest.replay(one, BOTH, [*p]) for one, (p, _) in zip(together, questions, strict=True)]
    replayed = records(proof.engine.run(replays))
    pictures, question = questions[streamed]
    request = GenerateRequest.build([*pictures], question, {**VIEW, "max_new_tokens": STEPS})
    *_, last = proof.engine.stream(request)
    assert isinstance(last, Record), last
    for some in (together, alone, replayed):
        for one, other in zip(some, wanted, strict=True):
            check_record(one, other, proof.row_limit)
            check_words(one, other, proof.row_limit)
    check_record(last, wanted[streamed], proof.row_limit)
    return together


def check_record(record: Record, wanted: Expected, limit: float = ROW_LIMIT) -> None:
    """Ids, tokens, maps and shares of a record."""
    assert list(record.facts.prompt.ids) == wanted.prompt
    assert [token.id for token in record.tokens] == wanted.answer
    places = [p for grid in record.grids for first, count in grid.positions for p in range(first, first + count)]
    assert len(set(places)) == len(places)
    [view] = record.views.values()
    maps, image = view.patches_float(), wanted.rows[..., places]
    np.testing.assert_allclose(maps, image, atol=limit, rtol=0)
    assert maps.max() > 0.01
    first = [0] if wanted.prompt[0] == BOS_ID else []
    text = np.delete(wanted.rows[..., : len(wanted.prompt)], [*first, *places], axis=-1).sum(-1)
    answer = wanted.rows[..., len(wanted.prompt) :].sum(-1)
    parts = [wanted.rows[..., first].sum(-1), image.sum(-1), text, answer]
    np.testing.assert_allclose(view.shares, np.stack(parts, -1), atol=1e-5, rtol=0)
    check_separators(record, wanted, places)


def check_separators(record: Record, wanted: Expected, places: Sequence[int]) -> None:
    """Newlines, breaks and class tokens: every token of an image that is no patch, and the eager rows there."""
    apart = [position for position in wanted.images if position not in places]
    told = [p for first, count in record.facts.prompt.separators for p in range(first, first + count)]
    assert told == apart
    [view] = record.views.values()
    if not apart:
        assert view.separators is None
        return
    assert view.separators is not None
    np.testing.assert_allclose(view.separators, wanted.rows[..., apart].sum(-1), atol=1e-5, rtol=0)
    assert view.separators.max() > 1e-4
    split = view.split()
    assert split is not None
    np.testing.assert_allclose(split.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(split[..., 2] + split[..., 4], view.shares[..., 2], atol=1e-6)


def check_words(record: Record, wanted: Expected, limit: float = ROW_LIMIT) -> None:
    """The attention to words: every position that is no patch, and the mean of the eager rows there."""
    view = record.texts["words"]
    places = [p for grid in record.grids for first, count in grid.positions for p in range(first, first + count)]
    assert {*view.positions} == {*range(wanted.rows.shape[-1])} - {*places}
    np.testing.assert_allclose(view.values, wanted.rows.mean((1, 2))[:, list(view.positions)], atol=limit, rtol=0)


def check_methods(proof: Proof, asked: Asked) -> None:
    """All methods of the house make maps of the model's own answer, the same ones alone and in a replay."""
    pictures, question = asked
    known = METHODS.known()
    family = type(proof.engine.loaded.family).__module__.rpartition(".")[2]
    assert [name for name, one in known.items() if family not in proved_for(one)["replayed"]] == []
    view = {"layers": "all", "heads": "all", "reduction": "layers_heads"}
    views = [{**view, "name": name, "method": name, "parameters": _few(known[name])} for name in sorted(known)]
    options = {"views": views, "precision": "float32"}
    request = GenerateRequest.build([*pictures], question, {**options, "max_new_tokens": STEPS})
    [record] = records(proof.engine.run([request]))
    [again] = records(proof.engine.run([GenerateRequest.replay(record, options, [*pictures])]))
    assert len(record.views) + len(record.texts) == len(views) > 6
    for name, text in record.texts.items():
        assert text.values.max() > 0.01, name
        np.testing.assert_allclose(again.texts[name].values, text.values, atol=1e-5, rtol=0)
    for name, view in record.views.items():
        maps = view.patches_float()
        assert np.isfinite(maps).all()
        assert np.ptp(maps, axis=-1).min() > 0, name
        largest = float(np.abs(maps).max())
        np.testing.assert_allclose(again.views[name].patches_float(), maps, atol=1e-4 * largest, rtol=0)


def check_passes(proof: Proof, asked: Asked) -> None:
    """Both checks of an answer and the scorer, which hide patches of all grids at one time, agree on its words."""
    pictures, question = asked
    checks = ["image", {"name": "patches", "sets": 2}]
    options = {"max_new_tokens": STEPS, "check": checks}
    [record] = records(proof.engine.run([GenerateRequest.build([*pictures], question, options)]))
    assert record.facts.checks.keys() >= {"self_test", "image", "patches"}
    scorer = proof.engine.scorer(record, 1, [*pictures])
    patches = sum(grid.patches for grid in record.grids)
    none, every = scorer.log_probs(np.stack([np.zeros(patches, bool), np.ones(patches, bool)]))
    token = record.tokens[1]
    np.testing.assert_allclose([none, every], [token.without_image, token.logprob], atol=1e-4)
    grey = proof.engine.scorer(record, 1, [*pictures], baseline="grey").log_probs(np.ones((1, patches), bool))
    np.testing.assert_allclose(grey, [token.logprob], atol=1e-4)


FEW = {"steps": 2, "masks": 16, "size": 12, "stride": 12}
"""Points on a way, random masks, windows: parameters that make methods of many passes cheap."""


def _few(method: Declaration) -> dict[str, int]:
    return {one.name: FEW[one.name] for one in method.parameters if one.name in FEW}


def check_static(proof: Proof, questions: Sequence[Asked]) -> None:
    """Decoding on static buffers gives the answers and maps of the growing cache."""
    static = StaticDecoder(proof.engine.loaded, (len(questions),), (64,), compiled=False)
    requests = [GenerateRequest.build([*p], q, {**BOTH, "max_new_tokens": STEPS}) for p, q in questions]
    buffered = records(Engine(proof.engine.loaded, proof.engine.settings, static).run(requests))
    assert {record.run["decoder"] for record in buffered} == {"static"}
    for one, asked in zip(buffered, questions, strict=True):
        wanted = expected(proof, asked)
        check_record(one, wanted)
        check_words(one, wanted)


def records(results: Sequence[Any]) -> list[Record]:
    """The results of an engine, none of which may be a refusal."""
    assert all(isinstance(result, Record) for result in results), results
    return [*results]
