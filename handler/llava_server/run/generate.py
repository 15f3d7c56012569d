"""The decoding loop of one batch, with the capture on.

Flow: padded batch -> prefill -> decode steps (greedy or sampled per item; growing cache, or static buffers where a
bucket fits) until every item has finished -> tokens, log probabilities, cached keys, captured queries. `steps_of` shows
each token as it comes, `generate` is the same in one go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from llava_server.attend.capture import QueryCapture
from llava_server.load.choosing import processors
from llava_server.load.loading import LoadedModel
from llava_server.run.batch import (
    BatchItem,
    BatchRun,
    PaddedBatch,
    captured_layers,
    captured_positions,
    keeps_values,
    pad,
)
from llava_server.run.decoded import TokenLog
from llava_server.run.sampling import Sampler
from llava_server.run.static import StaticDecoder


class Steps(Protocol):
    """What runs the decode steps of one batch after its prefill."""

    name: str

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Raw logits [batch, vocab] float32 after the tokens `ids` [batch] int64."""

    def keys(self) -> tuple[torch.Tensor, ...]:
        """The cached keys per layer so far; the batch's capture has the queries of all steps so far."""

    def values(self) -> tuple[torch.Tensor, ...]:
        """The cached values per layer so far."""


@dataclass(frozen=True)
class Progress:
    """A batch after one more token of every item.

    Args:
        step: the step that predicted it; 0 is the prefill.
        log: the tokens so far.
        capture: the queries so far.
        keys, values: give the cached keys and values per layer so far.
        pads: padding positions before each prompt.
    """

    step: int
    log: TokenLog
    capture: QueryCapture
    keys: Callable[[], tuple[torch.Tensor, ...]]
    values: Callable[[], tuple[torch.Tensor, ...]]
    pads: tuple[int, ...]


def generate(
    loaded: LoadedModel,
    items: Sequence[BatchItem],
    static: StaticDecoder | None = None,
    given: Sequence[Sequence[int]] = (),
) -> BatchRun:
    """Runs one batch.

    Args:
        loaded: model and processor.
        items: at least one.
        static: static buffers, used when the batch fits one of their buckets.
        given: tokens to take instead of choosing any, one answer per item, each as long as its max_new_tokens.

    Returns:
        the run; greedy tokens are those of plain sdpa generation on the same padded batch.
    """
    running = steps_of(loaded, items, static, given)
    while True:
        try:
            next(running)
        except StopIteration as finished:
            run: BatchRun = finished.value
            return run


@torch.inference_mode()
def steps_of(
    loaded: LoadedModel,
    items: Sequence[BatchItem],
    static: StaticDecoder | None = None,
    given: Sequence[Sequence[int]] = (),
) -> Generator[Progress, None, BatchRun]:
    """Runs one batch as `generate` does, and yields after every token; closing it early stops the model."""
    started = time.perf_counter()
    batch = pad(items, loaded.family, loaded.pad_id, loaded.device, loaded.model.dtype)
    new_tokens = max(item.plan.options.max_new_tokens for item in items)
    samplers = [] if given else [_sampler(loaded, item) for item in items]
    log = TokenLog(items, batch.pads, loaded.eos_ids)
    capture = QueryCapture(captured_positions(items, batch), batch.length, captured_layers(items))
    logits, cache = prefill(loaded, batch, capture)
    chosen = _given(given, 0, loaded) if given else _choose(samplers, logits[:, -1])
    finished = log.add(logits[:, -1], chosen)
    prefill_ms = (time.perf_counter() - started) * 1000
    steps: Steps = _GrowingSteps(loaded, batch, cache, capture)
    if static is not None and not finished:
        steps = static.begin(batch, cache, capture, new_tokens) or steps
    # What the steps do not hold themselves, such as a cache that was copied into static buffers, is free from here.
    del cache, logits
    step = 0
    yield Progress(step, log, capture, steps.keys, steps.values, batch.pads)
    while not finished:
        if any(log.reasons):
            done = torch.tensor([reason is not None for reason in log.reasons], device=loaded.device)
            chosen = torch.where(done, loaded.pad_id, chosen)
        step_logits = steps.step(chosen)
        step += 1
        chosen = _given(given, step, loaded) if given else _choose(samplers, step_logits)
        finished = log.add(step_logits, chosen)
        yield Progress(step, log, capture, steps.keys, steps.values, batch.pads)
    decoded = log.finish()
    decode_ms = (time.perf_counter() - started) * 1000 - prefill_ms
    values = steps.values() if keeps_values(items) else ()
    return BatchRun(decoded, steps.keys(), capture, steps.name, prefill_ms, decode_ms, values)


def prefill(
    loaded: LoadedModel, batch: PaddedBatch, capture: QueryCapture, last: int = 1
) -> tuple[torch.Tensor, DynamicCache]:
    """Runs all padded positions at once.

    Returns:
        raw logits [batch, last, vocab] float32 of the last positions, and the filled cache.
    """
    # Without a configuration: a cache that was told of windows drops keys, and rows are made of all of them.
    cache = DynamicCache()
    logits = loaded.model(
        **entering(loaded, batch),
        position_ids=batch.position_ids,
        attention_mask=batch.attention_mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
        query_capture=capture,
    ).logits
    capture.check_keys([layer.keys for layer in cache.layers])
    return logits.to(device=loaded.device, dtype=torch.float32), cache


def entering(loaded: LoadedModel, batch: PaddedBatch) -> dict[str, Any]:
    """What the model's forward takes in place of ids, the pictures' features among the words.

    Embedded here: the model's own forward would want a picture for an image token in a given answer too.
    """
    family, inputs = loaded.family, batch.inputs
    if family.joined:
        inputs = ({name: torch.cat([one[name] for one in inputs]) for name in inputs[0]},)
    found = [family.features(loaded.model, one) for one in inputs]  # [token, width] each
    features = found[0] if len(found) == 1 else torch.cat(found)
    return family.embedded(loaded.model, batch.input_ids, batch.image_mask, features)


def embedded(loaded: LoadedModel, batch: PaddedBatch) -> torch.Tensor:
    """[batch, length, width]: what goes into the first layer, the pictures' features at their places.

    Raises:
        RuntimeError: the family hands its model more than that.
    """
    given = entering(loaded, batch)
    if given.keys() != {"inputs_embeds"}:
        raise RuntimeError(
            f"family: got a forward with {sorted(given)}, expected inputs_embeds alone to run rows again"
        )
    embeddings: torch.Tensor = given["inputs_embeds"]
    return embeddings


class _GrowingSteps:
    """Decode steps on transformers' growing cache; any batch size and length."""

    name = "dynamic"

    def __init__(self, loaded: LoadedModel, batch: PaddedBatch, cache: DynamicCache, capture: QueryCapture) -> None:
        self._loaded = loaded
        self._cache = cache
        self._capture = capture
        self._mask = batch.attention_mask
        self._positions = batch.next_positions

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(ids), 1))], dim=1)
        positions, self._positions = self._positions, self._positions + 1
        logits = self._loaded.model(
            input_ids=ids[:, None],
            position_ids=positions,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            query_capture=self._capture,
        ).logits[:, -1]
        return logits.to(device=self._loaded.device, dtype=torch.float32)

    def keys(self) -> tuple[torch.Tensor, ...]:
        keys = tuple(layer.keys for layer in self._cache.layers)
        self._capture.check_keys(keys)
        return keys

    def values(self) -> tuple[torch.Tensor, ...]:
        return tuple(layer.values for layer in self._cache.layers)


def _choose(samplers: Sequence[Sampler], logits: torch.Tensor) -> torch.Tensor:
    """[batch] int64: one argmax for the plain rows, one choice of its own for each other row."""
    chosen = logits.argmax(-1)
    for i, sampler in enumerate(samplers):
        if not sampler.plain:
            chosen[i] = sampler.choose(logits[i : i + 1])[0]
    return chosen


def _sampler(loaded: LoadedModel, item: BatchItem) -> Sampler:
    prompt, options = item.prompt.ids, item.plan.options
    changes = processors(loaded.model, loaded.choosing, options, len(prompt), loaded.eos_ids)
    return Sampler(item.plan.decoding, item.seed, loaded.device, changes, prompt)


def _given(answers: Sequence[Sequence[int]], step: int, loaded: LoadedModel) -> torch.Tensor:
    """[batch] int64: each answer's token at one step, padding behind its end."""
    ids = [answer[step] if step < len(answer) else loaded.pad_id for answer in answers]
    return torch.tensor(ids, device=loaded.device)
