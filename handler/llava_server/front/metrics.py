"""What operators measure: the name of every figure, and the figures of a request and of a batch as plain numbers.

Flow: an outcome and a record's run block -> `Figure`s -> whoever serves hands them to its metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch

STAGES = ("preprocess", "prefill", "decode", "attention")
"""Stages of an answer; `<stage>_ms` in a record's run block."""


class Kind(NamedTuple):
    """One figure's type, unit, labels (after `model`) and meaning."""

    type: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    what: str


KINDS: dict[str, Kind] = {
    "llava_requests_total": Kind("counter", "count", ("transport", "outcome"), "requests; the outcome ok or a code"),
    "llava_tokens_total": Kind("counter", "count", (), "tokens of answers"),
    "llava_request_bytes_total": Kind("counter", "bytes", (), "bytes of images, prompts, options and records"),
    "llava_reply_bytes_total": Kind("counter", "bytes", (), "bytes of replies"),
    "llava_stage_seconds": Kind("histogram", "seconds", ("stage",), f"time per stage: {', '.join(STAGES)}"),
    "llava_batch_size": Kind("histogram", "count", (), "requests of a batch"),
    "llava_batch_seconds": Kind("histogram", "seconds", (), "time of a batch, from its rows to its replies"),
    "llava_device_memory_bytes": Kind(
        "gauge",
        "bytes",
        ("worker", "device", "kind"),
        "memory that a worker has in use on a device (`kind` used), and its peak; `cpu`: its process",
    ),
}
"""Every figure by name; conf/metrics.yaml says the same to TorchServe."""


class Figure(NamedTuple):
    """One number to add or set, with the values of its labels (the model is added by whoever passes it on)."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def of_request(
    transport: str, outcome: str, tokens: int, request_bytes: int, reply_bytes: int, run: Mapping[str, Any]
) -> Iterator[Figure]:
    """The figures of one request.

    Args:
        transport: "http" or "grpc".
        outcome: "ok" or an error's code.
        tokens: of the answer; 0 without one.
        request_bytes, reply_bytes: sizes.
        run: the record's run block; empty without a record.
    """
    yield Figure("llava_requests_total", 1, (transport, outcome))
    yield Figure("llava_request_bytes_total", request_bytes)
    yield Figure("llava_reply_bytes_total", reply_bytes)
    if tokens:
        yield Figure("llava_tokens_total", tokens)
    for stage in STAGES:
        taken_ms = run.get(f"{stage}_ms")
        if taken_ms is not None:
            yield Figure("llava_stage_seconds", round(taken_ms / 1000, 6), (stage,))


def of_batch(size: int, taken_ms: float, worker: str, devices: Iterable[torch.device]) -> Iterator[Figure]:
    """The figures of one batch.

    Args:
        size: how many requests it had.
        taken_ms: how long it took.
        worker: which worker ran it; the same name after a restart, so that a series goes on.
        devices: where its model lies.
    """
    yield Figure("llava_batch_size", size)
    yield Figure("llava_batch_seconds", round(taken_ms / 1000, 6))
    # The process's own memory always, since a worker with a GPU needs the host too.
    gpus = {device for device in devices if device.type == "cuda"}
    for device in (torch.device("cpu"), *sorted(gpus, key=str)):
        for kind, value in _memory_bytes(device).items():
            yield Figure("llava_device_memory_bytes", value, (worker, str(device), kind))


def _memory_bytes(device: torch.device) -> dict[str, int]:
    if device.type == "cuda":
        return {"used": torch.cuda.memory_allocated(device), "peak": torch.cuda.max_memory_allocated(device)}
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # The kernel counts the peak now and then only.
    return {"used": used, "peak": max(used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)}
