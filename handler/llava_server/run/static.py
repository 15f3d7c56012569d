"""Decode steps on preallocated buffers with fixed addresses, compiled into one graph per bucket.

Flow: buckets (batch size, cache length) from the settings -> one set of buffers shared by all of them -> `warm_up`
compiles each bucket at load -> per batch: the prefill's cache is copied in, steps run in the smallest bucket that
fits -> keys and queries are read from the buffers before the next batch.

Nothing that a request selects is inside the graph: it stores the queries of every layer at the cache slot of their
token, and rows are computed afterwards. The slot is a tensor that the graph itself advances, so the graph is the same
for every step, and CUDA graphs can replay it. Batches that fit no bucket take the growing cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from llava_doors.family import Family, Layout
from llava_server.ask.settings import SettingsError
from llava_server.attend.capture import AttentionCall, QueryCapture
from llava_server.load.loading import LoadedModel
from llava_server.run.batch import PaddedBatch

_WARM_STEPS = 3
"""CUDA graphs run a graph once to warm up and once to record it; the third is a replay."""


@dataclass(frozen=True)
class Bucket:
    """The buffers of one batch size and cache length; the recorder and the cache of the compiled step.

    Args:
        keys, values: per layer [batch, kv head, slot, head_dim].
        queries: per layer [slot - patches, batch, head, head_dim]: a prompt is longer than its picture, so no
            answer token has a lower slot.
        mask: [batch, 1, 1, slot] bool, which slots may be read.
        positions: [batch, 1] int64, the position of the token being decoded, without padding.
        slot: [1] int64, where it goes.
        first_slot: the slot of `queries[0]`.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    queries: tuple[torch.Tensor, ...]
    mask: torch.Tensor
    positions: torch.Tensor
    slot: torch.Tensor
    first_slot: int

    @property
    def batch(self) -> int:
        """Items that fit."""
        return self.mask.shape[0]

    @property
    def length(self) -> int:
        """Slots."""
        return self.mask.shape[3]

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The cache's part: one token's keys and values [batch, kv head, 1, head_dim] in, all slots out."""
        self.keys[layer].index_copy_(2, self.slot, key)
        self.values[layer].index_copy_(2, self.slot, value)
        return self.keys[layer], self.values[layer]

    def record(self, call: AttentionCall) -> None:
        """The recorder's part, see `llava_server.attend.capture.Recorder`."""
        self.queries[call.layer].index_copy_(0, self.slot - self.first_slot, call.query[:, :, -1][None])

    def fill(self, batch: PaddedBatch, cache: DynamicCache) -> None:
        """Takes over a prefill; what earlier batches left behind is overwritten or zeroed."""
        count, length = batch.size, batch.length
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            for buffer, filled in ((keys, cache.layers[layer].keys), (values, cache.layers[layer].values)):
                buffer[:count, :, :length].copy_(filled)
                # A leftover that is not finite would get through the mask: 0 * nan is nan.
                buffer[:count, :, length:].zero_()
                buffer[count:].zero_()
        self.mask.zero_()
        self.mask[:count, 0, 0, :length].copy_(batch.attention_mask)
        # Rows of the bucket that no item uses must see something, or their softmax is nan.
        self.mask[count:, 0, 0, 0] = True
        self.positions.zero_()
        self.positions[:count].copy_(batch.next_positions)
        self.slot.fill_(length)


class StaticDecoder:
    """Owns the buffers; one batch at a time.

    Args:
        loaded: the model; all of its text layers on one device.
        batches: batch sizes of the buckets.
        text_tokens: cache lengths of the buckets beside the patches of a picture: prompt text and answer together.
        compiled: compile the step (needs a C++ compiler on the CPU); False runs the same step uncompiled.
    """

    def __init__(
        self, loaded: LoadedModel, batches: Sequence[int], text_tokens: Sequence[int], *, compiled: bool = True
    ) -> None:
        self._loaded = loaded
        self.name = "compiled" if compiled else "static"
        self._step: Callable[[Any, Any, Bucket, torch.Tensor], torch.Tensor] = _decode_step
        self._text, self._head = loaded.family.text_model(loaded.model), loaded.model.get_output_embeddings()
        patches, context = picture_of(loaded.family, loaded.processor).patches, loaded.facts.context
        lengths = sorted({min(patches + extra, context) for extra in text_tokens})
        shapes = [(size, length) for size in sorted(set(batches)) for length in lengths]
        pools = _Pools(loaded, max(size * length for size, length in shapes), patches)
        self.buckets = tuple(pools.bucket(size, length) for size, length in shapes)
        if compiled:
            _allow_graphs(len(shapes))
            mode = "reduce-overhead" if loaded.device.type == "cuda" else "default"
            self._step = torch.compile(_decode_step, fullgraph=True, dynamic=False, mode=mode)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Runs every bucket, so that compiling is paid for now and by no request."""
        for bucket in self.buckets:
            bucket.mask.zero_()
            bucket.mask[..., : bucket.first_slot + 1] = True
            bucket.positions.fill_(bucket.first_slot)
            bucket.slot.fill_(bucket.first_slot)
            steps = min(_WARM_STEPS, bucket.length - bucket.first_slot)
            for _ in range(steps):
                self.step(bucket, torch.zeros(bucket.batch, dtype=torch.int64, device=self._loaded.device))

    def begin(
        self, batch: PaddedBatch, cache: DynamicCache, capture: QueryCapture, new_tokens: int
    ) -> _StaticSteps | None:
        """Takes a prefill over into the smallest bucket that fits, or None; the cache is free afterwards."""
        fitting = [b for b in self.buckets if b.batch >= batch.size and b.length >= batch.length + new_tokens - 1]
        if not fitting:
            return None
        bucket = min(fitting, key=lambda b: (b.batch * b.length, b.batch))
        bucket.fill(batch, cache)
        return _StaticSteps(self, bucket, batch.size, capture)

    def step(self, bucket: Bucket, ids: torch.Tensor) -> torch.Tensor:
        """Logits [bucket's batch, vocab] float32 after `ids` [bucket's batch]; advances the bucket's slot."""
        torch.compiler.cudagraph_mark_step_begin()
        return self._step(self._text, self._head, bucket, ids)


_USUAL_LIMIT = torch._dynamo.config.recompile_limit
_graphs: list[int] = []


def _allow_graphs(count: int) -> None:
    """Lets torch compile that many graphs more of the one step that all decoders of a process share.

    One graph per bucket is the intention here, not a sign of guards that never hold. Settings of dynamo belong to a
    thread, so the sum is kept here.
    """
    _graphs.append(count)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _USUAL_LIMIT + sum(_graphs))


def picture_of(family: Family, processor: Any) -> Layout:
    """The layout of a picture of any size, which the buckets' lengths count from.

    Raises:
        SettingsError: a picture's tokens depend on its size, or positions have several axes.
    """
    if not family.one_size or family.axes != 1:
        raise SettingsError(
            "handler.compile: got true for a model whose images take a number of tokens of their own or whose "
            "positions have several axes, expected one whose images all take the same; set compile: false"
        )
    return family.layout(processor, [(640, 480)])


class _StaticSteps:
    """The decode steps of one batch in one bucket."""

    def __init__(self, decoder: StaticDecoder, bucket: Bucket, size: int, capture: QueryCapture) -> None:
        self.name = decoder.name
        self._decoder = decoder
        self._bucket = bucket
        self._size = size
        for layer, queries in enumerate(bucket.queries):
            capture.adopt_steps(layer, queries, bucket.first_slot)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        missing = self._bucket.batch - self._size
        padded = torch.cat([ids, ids.new_zeros(missing)]) if missing else ids
        return self._decoder.step(self._bucket, padded)[: self._size]

    def keys(self) -> tuple[torch.Tensor, ...]:
        return self._bucket.keys

    def values(self) -> tuple[torch.Tensor, ...]:
        return self._bucket.values


class _Pools:
    """Flat memory that all buckets are views of: only one of them is in use at a time.

    Args:
        loaded: the model.
        slots: the largest batch size x cache length.
        undecoded: slots that never hold a decoded token.
    """

    def __init__(self, loaded: LoadedModel, slots: int, undecoded: int) -> None:
        facts, device, dtype = loaded.facts, loaded.device, loaded.model.dtype
        self._facts = facts
        self._device = device
        self._first_slot = undecoded
        kv, query = facts.kv_heads * facts.head_dim, facts.heads * facts.head_dim

        def pool(width: int) -> list[torch.Tensor]:
            return [torch.zeros(slots * width, dtype=dtype, device=device) for _ in range(facts.layers)]

        self._keys, self._values, self._queries = pool(kv), pool(kv), pool(query)

    def bucket(self, size: int, length: int) -> Bucket:
        """A bucket whose tensors lie at the start of the pools."""
        facts = self._facts
        kv = (size, facts.kv_heads, length, facts.head_dim)
        query = (length - self._first_slot, size, facts.heads, facts.head_dim)
        bucket = Bucket(
            keys=tuple(_part(pool, kv) for pool in self._keys),
            values=tuple(_part(pool, kv) for pool in self._values),
            queries=tuple(_part(pool, query) for pool in self._queries),
            mask=torch.zeros((size, 1, 1, length), dtype=torch.bool, device=self._device),
            positions=torch.zeros((size, 1), dtype=torch.int64, device=self._device),
            slot=torch.zeros(1, dtype=torch.int64, device=self._device),
            first_slot=self._first_slot,
        )
        for tensor in (*bucket.keys, *bucket.values, *bucket.queries, bucket.mask, bucket.positions, bucket.slot):
            # Without this mark CUDA graphs are skipped, because the graph changes these tensors in place.
            torch._dynamo.mark_static_address(tensor)
        return bucket


def _part(pool: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    count = 1
    for side in shape:
        count *= side
    return pool[:count].view(shape)


def _decode_step(text: Any, head: Any, bucket: Bucket, ids: torch.Tensor) -> torch.Tensor:
    """One token for every row of the bucket: ids [batch] -> raw logits [batch, vocab] float32."""
    bucket.mask.index_fill_(3, bucket.slot, True)
    hidden = text(
        input_ids=ids[:, None],
        position_ids=bucket.positions,
        attention_mask=bucket.mask,
        past_key_values=bucket,
        use_cache=True,
        query_capture=bucket,
    ).last_hidden_state  # [batch, 1, width]
    logits = head(hidden[:, -1]).float()
    bucket.positions.add_(1)
    bucket.slot.add_(1)
    return logits
