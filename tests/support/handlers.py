"""A handler without TorchServe: an engine that answers as told, rows as they come in, and the metrics handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from llava_handler import LlavaHandler
from llava_server.ask.request import GenerateRequest
from llava_wire import Record, RequestError
from support.context import Context
from support.synthetic import make_record

ROW = {"image": bytearray(b"picture"), "prompt": bytearray(b"What?")}
HTTP = {"Host": "x", "Content-Type": "multipart/form-data; boundary=b", "Accept": "application/x-npz"}


class Engine:
    """Answers with a made-up record, or as told."""

    def __init__(self, answer: Callable[[GenerateRequest], Record | RequestError], limit: int = 1 << 24) -> None:
        self.answer = answer
        self.batches: list[int] = []
        limits = type("Limits", (), {"max_response_bytes": limit})
        self.settings = type("Settings", (), {"limits": limits, "name": "m", "log_prompts": False})
        self.loaded = type("Loaded", (), {"device": torch.device("cpu"), "layer_devices": (torch.device("cpu"),)})

    def run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        self.batches.append(len(requests))
        return [self.answer(request) for request in requests]


def answer(engine: Engine, rows: Sequence[Any], headers: Sequence[dict[str, Any]]) -> tuple[list[bytes], Context]:
    """One batch through a handler with this engine."""
    handler, context = LlavaHandler(), Context(headers)
    handler._engine = engine  # type: ignore[assignment]
    return handler.handle(rows, context), context


def good(request: GenerateRequest) -> Record:
    return make_record(with_picture=False)


class Metrics:
    """What TorchServe hands over for figures."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, float, tuple[str, ...]]] = []

    def get_metric(self, name: str, kind: Any) -> Any:
        def add_or_update(value: float, labels: list[str]) -> None:
            self.seen.append((name, kind.value, value, tuple(labels)))

        return type("Metric", (), {"add_or_update": staticmethod(add_or_update)})
