"""LLaVA with its attention, in process: requests in, records out. The handler only calls this.

Flow: `GenerateRequest`s -> prepared items (picture, prompt, plan, size check) -> batches under a byte budget ->
`generate` -> attention rows -> reductions -> `Record`s, in the order of the requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llava_server import estimate as sizes
from llava_server.batch import BatchItem
from llava_server.generate import generate
from llava_server.images import prepare_image
from llava_server.loading import LoadedModel, load, prepare
from llava_server.plan import make_plan
from llava_server.prompt import PromptEncoder, check_context
from llava_server.request import GenerateRequest
from llava_server.response import RecordBuilder
from llava_server.sampling import seed_of
from llava_server.settings import ModelSettings, SettingsError
from llava_wire.errors import RequestError
from llava_wire.record import Record


@dataclass(frozen=True)
class _Prepared:
    """One request with its place in the caller's list."""

    index: int
    request: GenerateRequest
    item: BatchItem
    needed: sizes.Estimate
    preprocess_ms: float


class Engine:
    """A loaded model that answers requests with records.

    Args:
        loaded: model and processor, from `llava_server.loading`.
        settings: limits, default views, head sets, provenance.
    """

    def __init__(self, loaded: LoadedModel, settings: ModelSettings) -> None:
        self.loaded = loaded
        self.settings = settings
        self._encoder = PromptEncoder(loaded.processor, loaded.model.config.image_token_id, loaded.facts.image_tokens)
        self._builder = RecordBuilder(loaded, settings)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any] | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Engine:
        """Loads a model.

        Args:
            path: model_store/<model>, model_store/<model>.yaml, or any checkpoint folder.
            settings: the `handler:` section, when it is not in a YAML beside the folder.
            device: "cpu", "cuda", "cuda:1" or "map"; None follows the settings.
            dtype: "float32", "float16" or "bfloat16"; None follows the settings.

        Raises:
            SettingsError: when the YAML or the checkpoint cannot be used.
        """
        folder, chosen = resolve(Path(path), settings)
        if chosen.threads:
            torch.set_num_threads(chosen.threads)
        wanted = device or chosen.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise SettingsError(f"device: got {wanted!r}, allowed 'cpu': PyTorch sees no CUDA device; set device: cpu")
        return cls(load(folder, chosen, device=wanted, dtype=dtype or chosen.dtype), chosen)

    @classmethod
    def from_model(cls, model: Any, processor: Any, settings: ModelSettings | None = None) -> Engine:
        """Wraps a model and processor that are in memory already; the model's attention becomes the capturing one."""
        return cls(prepare(model, processor), settings or ModelSettings())

    def run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        """Answers requests, batched under the byte budget; a refused request never harms the others.

        Args:
            requests: any mixture of options.

        Returns:
            one `Record` or `RequestError` per request, in order.
        """
        results: list[Record | RequestError | None] = [None] * len(requests)
        prepared: list[_Prepared] = []
        for index, request in enumerate(requests):
            try:
                prepared.append(self._prepare(index, request))
            except RequestError as error:
                results[index] = error
        for batch in _split(prepared, self.settings.limits.batch_bytes):
            for entry, result in zip(batch, self._run_batch(batch), strict=True):
                results[entry.index] = result
        return [result for result in results if result is not None]

    def estimate(self, request: GenerateRequest) -> sizes.Estimate:
        """What a request would take, without running it; raises the same RequestError that `run` would return."""
        return self._prepare(0, request).needed

    def _prepare(self, index: int, request: GenerateRequest) -> _Prepared:
        started = time.perf_counter()
        loaded, limits, options = self.loaded, self.settings.limits, request.options
        plan = make_plan(options, loaded.facts, self.settings)
        if len(request.prompt) > limits.max_prompt_chars:
            raise RequestError(
                "too_large",
                "prompt",
                f"got {len(request.prompt)} characters, allowed {limits.max_prompt_chars}; shorten it",
            )
        prompt = self._encoder.encode(request.prompt, options.template)
        check_context(len(prompt.ids), options.max_new_tokens, loaded.facts.context)
        needed = sizes.estimate(plan, loaded.facts, len(prompt.ids), len(prompt.question))
        sizes.check(needed, plan, limits)
        image = prepare_image(request.image, loaded.processor.image_processor, loaded.preprocess, limits)
        deadline_s = request.arrived_s + plan.deadline_ms / 1000
        return _Prepared(
            index,
            request,
            BatchItem(image, prompt, plan, deadline_s, seed_of(options)),
            needed,
            (time.perf_counter() - started) * 1000,
        )

    def _run_batch(self, batch: Sequence[_Prepared]) -> list[Record | RequestError]:
        """Runs one batch; when the device runs out of memory, each request again alone, then a clear refusal."""
        if time.monotonic() >= min(entry.item.deadline_s for entry in batch):
            return self._drop_late(batch)
        try:
            run = generate(self.loaded, [entry.item for entry in batch])
            return [
                self._builder.build(entry.request, entry.item, run, i, len(batch), entry.preprocess_ms)
                for i, entry in enumerate(batch)
            ]
        except torch.OutOfMemoryError as error:
            message = str(error).splitlines()[0]
        # Outside the except block: the traceback would keep the failed run's tensors alive.
        torch.cuda.empty_cache()
        if len(batch) > 1:
            return [result for entry in batch for result in self._run_batch([entry])]
        needed = batch[0].needed.device_bytes
        return [
            RequestError(
                "does_not_fit",
                "options",
                f"got about {needed} bytes beside the weights, and the device ran out of memory ({message}); "
                "set a smaller max_new_tokens, fewer views or a smaller model",
            )
        ]

    def _drop_late(self, batch: Sequence[_Prepared]) -> list[Record | RequestError]:
        """Refuses what is past its deadline before it started, and runs the rest."""
        now = time.monotonic()
        rest = [entry for entry in batch if entry.item.deadline_s > now]
        answers = iter(self._run_batch(rest) if rest else [])
        return [next(answers) if entry.item.deadline_s > now else _late(entry) for entry in batch]


def _late(entry: _Prepared) -> RequestError:
    return RequestError(
        "deadline",
        "options.deadline_ms",
        f"got {entry.item.plan.deadline_ms} ms, all spent waiting; raise it or try when fewer requests wait",
    )


def _split(prepared: Sequence[_Prepared], budget_bytes: int) -> list[list[_Prepared]]:
    """Consecutive batches under the budget; padding makes every item of a batch as large as its largest."""
    batches: list[list[_Prepared]] = []
    for entry in prepared:
        if batches:
            largest = max(e.needed.device_bytes for e in (*batches[-1], entry))
            if largest * (len(batches[-1]) + 1) <= budget_bytes:
                batches[-1].append(entry)
                continue
        batches.append([entry])
    return batches


def resolve(path: Path, settings: Mapping[str, Any] | None = None) -> tuple[Path, ModelSettings]:
    """The folder of the weights and the settings for model_store/<model>, its YAML, or a bare checkpoint folder.

    Raises:
        SettingsError: when neither a folder nor a YAML is there.
    """
    document = path if path.suffix in (".yaml", ".yml") else path.with_name(path.name + ".yaml")
    if settings is not None:
        chosen = ModelSettings.from_dict(settings)
    elif document.is_file():
        chosen = ModelSettings.from_yaml(document)
    elif path.is_dir():
        chosen = replace(ModelSettings(), name=path.name)
    else:
        raise SettingsError(f"model: got {path}, allowed a checkpoint folder or a model's YAML; see model_store/*.yaml")
    candidates = [Path(chosen.model_path)] if chosen.model_path else []
    candidates += [] if path == document else [path]
    candidates += [document.parent / chosen.source] if chosen.source else []
    candidates += [document.parent / "weights" / chosen.name]
    for folder in candidates:
        if (folder / "config.json").is_file():
            return folder, chosen
    raise SettingsError(
        f"weights: got none for {chosen.name}, allowed a checkpoint folder; run: make download MODEL={chosen.name}"
    )
