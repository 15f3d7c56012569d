"""What decides the speed of LLaVA-1.5-7B on one GPU, measured part by part.

Flow: random weights at the real configuration -> `Probe` -> its parts, the most important first -> findings. Every part
stands for itself: one that fails or runs out of time leaves the others alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache, LlavaConfig

from bench.gpu.findings import Journal
from bench.gpu.measuring import Stopwatch
from bench.parts.random_llava import random_llava
from bench.parts.whole_runs import QUESTION, copy_bandwidth, decoding_weight_bytes, drawn_scene, roomy_settings
from llava_server.answer.builder import RecordBuilder
from llava_server.answer.response import to_response
from llava_server.answer.stream import StreamBuilder
from llava_server.ask.request import GenerateRequest
from llava_server.attend.capture import QueryCapture
from llava_server.engine import Engine
from llava_server.fit.room import Room
from llava_server.load.loading import prepare
from llava_server.run.batch import BatchItem, captured_layers, captured_positions, pad
from llava_server.run.generate import generate, prefill, steps_of
from llava_server.run.prepare import Prepared, Preparer
from llava_server.run.static import StaticDecoder
from servekit.paths import MODEL_STORE

NAME = "llava-1.5-7b"
UNREDUCED = {"layers": "all", "heads": "all", "reduction": "none"}


class Probe:
    """A model with random weights and what is measured on it.

    Args:
        config: the configuration, the real one or a shrunk one for a dry run.
        device: where.
        new_tokens: length of answers.
        batches: batch sizes of the growing cache; prefills take the first and 4 at most.
        buckets: batch sizes of the compiled step.
        journal: takes the findings.
    """

    def __init__(
        self,
        config: LlavaConfig,
        device: torch.device,
        *,
        new_tokens: int,
        batches: Sequence[int],
        buckets: Sequence[int],
        journal: Journal,
    ) -> None:
        self.device, self.new_tokens, self.journal = device, new_tokens, journal
        self.batches, self.buckets = tuple(batches), tuple(buckets)
        self.watch = Stopwatch(device)
        dtype = torch.bfloat16 if self.watch.is_gpu else torch.float32
        model, processor = random_llava(config, dtype, device)
        self.watch.wait()
        self.loaded = prepare(model, processor)
        self.settings = roomy_settings(config, MODEL_STORE / f"{NAME}.yaml")
        self._preparer = Preparer(self.loaded, self.settings)
        self._builder = RecordBuilder(self.loaded, self.settings)
        weights = decoding_weight_bytes(model)
        bandwidth = copy_bandwidth(device, 1 << 30 if self.watch.is_gpu else 1 << 24)
        self.floor_ms = weights / bandwidth * 1e3
        journal.note(
            "floor: the weights of a decode step read once",
            floor_ms=self.floor_ms,
            weights_gb=weights / 1e9,
            copy_gb_per_s=bandwidth / 1e9,
            allocated_gb=torch.cuda.memory_allocated(device) / 1e9 if self.watch.is_gpu else 0.0,
        )

    def parts(self) -> list[tuple[str, float, Callable[[], None]]]:
        """Name, most seconds and function of each part, the most important first."""
        return [
            ("first request", 20, self.first_request),
            ("prefill", 25, self.prefills),
            ("decode step, growing cache", 40, self.growing),
            ("rows and record", 30, self.rows),
            ("streamed token", 15, self.stream),
            ("kept picture prefix", 15, self.kept_prefix),
            ("decode step, compiled", 120, self.compiled),
        ]

    def first_request(self) -> None:
        """From a request to its record, cold."""
        begin = time.perf_counter()
        [record] = Engine(self.loaded, self.settings).run([self._request(0)])
        self.watch.wait()
        tokens = len(record.tokens) if hasattr(record, "tokens") else 0
        self.journal.note("first request", seconds=time.perf_counter() - begin, tokens=tokens)

    @torch.inference_mode()
    def prefills(self) -> None:
        """Pictures and prompts of one and of four requests, and the vision tower's part of it."""
        for count in sorted({self.batches[0], min(4, self.batches[-1])}):
            items = self._items(count)
            self._fill(items)
            spent = self.watch.spent(partial(self._fill, items), 3)
            busy_ms, kernels = self.watch.busy(partial(self._fill, items))
            pixels = torch.cat([item.images.inputs["pixel_values"] for item in items])
            pixels = pixels.to(self.device, self.loaded.model.dtype)
            vision = self.watch.spent(partial(self._see, pixels), 3)
            self.journal.note(
                "prefill", batch=count, ms=spent.ms, host_ms=spent.host_ms, device_busy_ms=busy_ms, kernels=kernels,
                vision_ms=vision.ms,
            )  # fmt: skip

    def growing(self) -> None:
        """Decode steps as every server without `compile` takes them."""
        for count in self.batches:
            self._pace("decode step, growing cache", count, None)

    def rows(self) -> None:
        """From a finished run to the record of one answer, and to its bytes; default views, then everything."""
        for name, options in (("default", {}), ("unreduced", UNREDUCED)):
            prepared = self._prepared(2, options)
            run = generate(self.loaded, [entry.items[0] for entry in prepared])

            def build(entry: Prepared = prepared[0], run: Any = run) -> Any:
                return self._builder.build(entry.checked.request, entry.items[0], run, 0, 2, 0.0)

            record = build()
            spent = self.watch.spent(build, 3)
            busy_ms, kernels = self.watch.busy(build)
            waits = self.watch.waits(build)
            begin = time.perf_counter()
            body = to_response(record, "npz")[0]
            self.journal.note(
                "rows and record of one answer", views=name, ms=spent.ms, device_busy_ms=busy_ms, kernels=kernels,
                waits=waits, encode_ms=1e3 * (time.perf_counter() - begin), bytes=len(body),
            )  # fmt: skip

    def stream(self) -> None:
        """What a streamed token takes beside its step."""
        items = self._items(1)
        steps, builder, taken = steps_of(self.loaded, items), StreamBuilder(self._builder, items[0]), []
        for _ in range(min(12, self.new_tokens - 2)):
            progress = next(steps)
            self.watch.wait()
            begin = time.perf_counter()
            builder.token(progress)
            self.watch.wait()
            taken.append(1e3 * (time.perf_counter() - begin))
        progress = next(steps)
        waits = self.watch.waits(lambda: builder.token(progress))
        steps.close()
        self.journal.note("one streamed token beside its step", ms=median(taken), waits=waits)

    @torch.inference_mode()
    def kept_prefix(self) -> None:
        """The prefill of another question about a picture whose keys are kept."""
        [item] = self._items(1)
        loaded = self.loaded
        batch = pad([item], loaded.family, loaded.pad_id, self.device, loaded.model.dtype)
        _, full = self._fill([item])
        kept = item.prompt.patches[-1] + 1
        prefix = [(layer.keys[:, :, :kept].clone(), layer.values[:, :, :kept].clone()) for layer in full.layers]

        def ask() -> Any:
            cache = DynamicCache(config=loaded.model.config.get_text_config(decoder=True))
            for number, (keys, values) in enumerate(prefix):
                cache.update(keys, values, number)
            # Without the capture: the engine has no such prefill, and what the capture adds is one copy.
            return loaded.model(
                inputs_embeds=loaded.model.get_input_embeddings()(batch.input_ids[:, kept:]),
                position_ids=batch.position_ids[:, kept:],
                attention_mask=batch.attention_mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits

        ask()
        spent = self.watch.spent(ask)
        busy_ms, kernels = self.watch.busy(ask)
        self.journal.note(
            "prefill of a question on a kept picture", tokens=batch.length - kept, ms=spent.ms, host_ms=spent.host_ms,
            device_busy_ms=busy_ms, kernels=kernels, kept_mb=sum(k.nbytes + v.nbytes for k, v in prefix) / 1e6,
        )  # fmt: skip

    def compiled(self) -> None:
        """Making one compiled step per batch size, and its pace."""
        for count in self.buckets:
            begin = time.perf_counter()
            decoder = StaticDecoder(self.loaded, (count,), (64 + self.new_tokens,))
            decoder.warm_up()
            self.watch.wait()
            self.journal.note("compiling one bucket", batch=count, seconds=time.perf_counter() - begin)
            self._pace("decode step, compiled", count, decoder)
            with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
                self._pace("decode step, compiled, guards skipped", count, decoder)
            if self.watch.is_gpu:
                skips = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
                held_gb = torch.cuda.memory_reserved(self.device) / 1e9
                self.journal.note("CUDA graphs", batch=count, skipped=skips, reserved_gb=held_gb)

    def _pace(self, what: str, count: int, static: StaticDecoder | None) -> None:
        """Milliseconds per step, kernels and waits of one; as many steps as the answers have room for."""
        items = self._items(count)
        many = self.new_tokens - 4
        steps = self._begun(items, static)
        begin = time.perf_counter()
        for _ in range(many):
            next(steps)
        self.watch.wait()
        step_ms = 1e3 * (time.perf_counter() - begin) / many
        steps.close()
        steps = self._begun(items, static)
        busy_ms, kernels = self.watch.busy(lambda: next(steps))
        waits = self.watch.waits(lambda: next(steps))
        steps.close()
        self.journal.note(
            what, batch=count, step_ms=step_ms, times_the_floor=step_ms / self.floor_ms, device_busy_ms=busy_ms,
            kernels=kernels, waits=waits,
        )  # fmt: skip

    def _begun(self, items: Sequence[BatchItem], static: StaticDecoder | None) -> Any:
        """A run past its prefill and its first two steps, which are slower."""
        steps = steps_of(self.loaded, items, static)
        for _ in range(3):
            next(steps)
        self.watch.wait()
        return steps

    def _see(self, pixels: torch.Tensor) -> Any:
        return self.loaded.family.features(self.loaded.model, {"pixel_values": pixels})

    def _fill(self, items: Sequence[BatchItem]) -> tuple[torch.Tensor, DynamicCache]:
        batch = pad(items, self.loaded.family, self.loaded.pad_id, self.device, self.loaded.model.dtype)
        capture = QueryCapture(captured_positions(items, batch), batch.length, captured_layers(items))
        return prefill(self.loaded, batch, capture)

    def _request(self, seed: int, options: dict[str, Any] | None = None) -> GenerateRequest:
        asked = {"max_new_tokens": self.new_tokens, **(options or {})}
        return GenerateRequest.build(drawn_scene(seed), QUESTION, asked)

    def _prepared(self, count: int, options: dict[str, Any] | None = None) -> list[Prepared]:
        room = Room.of(self.loaded, self.settings.limits.batch_bytes)
        requests = [self._request(seed, options) for seed in range(count)]
        return [self._preparer.finish(self._preparer.check(request, room)) for request in requests]

    def _items(self, count: int) -> list[BatchItem]:
        return [entry.items[0] for entry in self._prepared(count)]
