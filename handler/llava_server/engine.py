"""LLaVA with its attention, in process: requests in, records out. The handler only calls this.

Flow: `GenerateRequest`s -> `Prepared` requests (picture, prompt, plan, size check) -> batches under a byte budget ->
decoding, replay or beam search -> attention rows -> reductions -> `Record`s, in the order of the requests.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llava_server import estimate as sizes
from llava_server.beams import beam_search
from llava_server.generate import generate
from llava_server.loading import LoadedModel, load, prepare
from llava_server.prepare import Prepared, Preparer
from llava_server.replay import replay
from llava_server.request import GenerateRequest
from llava_server.response import RecordBuilder
from llava_server.settings import ModelSettings, SettingsError
from llava_server.static import StaticDecoder, compiled_decoder
from llava_wire.errors import RequestError
from llava_wire.record import Record


class Engine:
    """A loaded model that answers requests with records; usable from several threads, which take turns.

    Args:
        loaded: model and processor, from `llava_server.loading`.
        settings: limits, default views, head sets, provenance.
        static: static buffers for decoding, or None to decode on a growing cache alone.
    """

    def __init__(self, loaded: LoadedModel, settings: ModelSettings, static: StaticDecoder | None = None) -> None:
        self.loaded = loaded
        self.settings = settings
        self._static = static
        self._preparer = Preparer(loaded, settings)
        self._builder = RecordBuilder(loaded, settings)
        # Records are made from the static buffers, so a batch owns the device until its records are done.
        self._turn = threading.Lock()

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
        loaded = load(folder, chosen, device=wanted, dtype=dtype or chosen.dtype)
        return cls(loaded, chosen, compiled_decoder(loaded, chosen) if chosen.compile else None)

    @classmethod
    def from_model(cls, model: Any, processor: Any, settings: ModelSettings | None = None) -> Engine:
        """Wraps a model and processor that are in memory already; the model's attention becomes the capturing one."""
        return cls(prepare(model, processor), settings or ModelSettings())

    def run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        """Answers requests, batched under the byte budget; a refused request never harms the others.

        Args:
            requests: any mixture of options, replays included.

        Returns:
            one `Record` or `RequestError` per request, in order.
        """
        results: list[Record | RequestError | None] = [None] * len(requests)
        prepared: list[tuple[int, Prepared]] = []
        for index, request in enumerate(requests):
            try:
                prepared.append((index, self._preparer.prepare(request)))
            except RequestError as error:
                results[index] = error
        for batch in _split(prepared, self.settings.limits.batch_bytes):
            with self._turn:
                answers = self._run_batch([entry for _, entry in batch])
            for (index, _), answer in zip(batch, answers, strict=True):
                results[index] = answer
        return [result for result in results if result is not None]

    def estimate(self, request: GenerateRequest) -> sizes.Estimate:
        """What a request would take, without running it; raises the same RequestError that `run` would return."""
        return self._preparer.prepare(request).needed

    def _run_batch(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """Runs one batch; when the device runs out of memory, each request again alone, then a clear refusal."""
        if time.monotonic() >= min(entry.items[0].deadline_s for entry in batch):
            return self._drop_late(batch)
        try:
            return self._records(batch)
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

    def _records(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """One record per request of a batch of one kind."""
        groups = [entry.items for entry in batch]
        if batch[0].kind == "beams":
            groups = [tuple(beam_search(self.loaded, item)) for (item,) in groups]
        items = [item for group in groups for item in group]
        run = generate(self.loaded, items, self._static) if batch[0].kind == "decode" else replay(self.loaded, items)
        results, first = [], 0
        for entry, group in zip(batch, groups, strict=True):
            built = [
                self._builder.build(entry.request, item, run, first + i, len(items), entry.preprocess_ms)
                for i, item in enumerate(group)
            ]
            first += len(group)
            results.append(_together(built))
        return results

    def _drop_late(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """Refuses what is past its deadline before it started, and runs the rest."""
        now = time.monotonic()
        rest = [entry for entry in batch if entry.items[0].deadline_s > now]
        answers = iter(self._run_batch(rest) if rest else [])
        return [next(answers) if entry.items[0].deadline_s > now else _late(entry) for entry in batch]


def _together(built: Sequence[Record | RequestError]) -> Record | RequestError:
    """The sequences of one request as one record; one refusal refuses the request."""
    records = []
    for result in built:
        if isinstance(result, RequestError):
            return result
        records.append(result)
    return replace(records[0], alternatives=tuple(replace(record, run={}) for record in records[1:]))


def _late(entry: Prepared) -> RequestError:
    return RequestError(
        "deadline",
        "options.deadline_ms",
        f"got {entry.items[0].plan.deadline_ms} ms, all spent waiting; raise it or try when fewer requests wait",
    )


def _split(prepared: Sequence[tuple[int, Prepared]], budget_bytes: int) -> list[list[tuple[int, Prepared]]]:
    """Consecutive batches of one kind under the budget; padding makes every item as large as the batch's largest."""
    batches: list[list[tuple[int, Prepared]]] = []
    for index, entry in prepared:
        if batches and batches[-1][-1][1].kind == entry.kind != "beams":
            together = [*(e for _, e in batches[-1]), entry]
            count = sum(len(e.items) for e in together)
            if count * max(e.needed.device_bytes // len(e.items) for e in together) <= budget_bytes:
                batches[-1].append((index, entry))
                continue
        batches.append([(index, entry)])
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
