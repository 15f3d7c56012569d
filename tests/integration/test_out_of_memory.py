"""A device that runs out of memory: each request again alone, then a 507 with advice; the worker lives and is clean.

By injection for every way of running out, and for real: a process whose address space is limited.
"""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.engine import Engine
from llava_server.load.memory import DeviceMemory
from llava_server.run import decoders as decoders_module
from llava_server.run import prepare as prepare_module
from llava_server.run.generate import generate
from llava_wire import Record, RequestError, encode
from support.pictures import scene_bytes

PICTURES = [scene_bytes(200, 160, seed) for seed in range(3)]
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    MemoryError(),
]
ROOT = Path(__file__).resolve().parents[2]


def requests(**options: object) -> list[GenerateRequest]:
    return [GenerateRequest.build(picture, "Describe the image.", options) for picture in PICTURES]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python"])
def test_in_a_batch_each_request_runs_alone(engine: Engine, monkeypatch, error: Exception):
    def small_device(loaded, items, static):
        if len(items) > 1:
            raise error
        return generate(loaded, items, static)

    monkeypatch.setattr(decoders_module, "generate", small_device)
    results = engine.run(requests())
    assert [record.run["batch_size"] for record in results] == [1, 1, 1]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python"])
def test_alone_it_is_a_507_with_advice_and_nothing_stays(engine: Engine, monkeypatch, error: Exception):
    held: list[weakref.ref[torch.Tensor]] = []

    def no_memory(loaded, items, static):
        half_done = torch.zeros(1000)
        held.append(weakref.ref(half_done))
        raise type(error)(*error.args)

    before = engine.run(requests()[:1])[0]
    with monkeypatch.context() as patch:
        patch.setattr(decoders_module, "generate", no_memory)
        [refusal] = engine.run(requests()[:1])
    assert isinstance(refusal, RequestError)
    assert (refusal.status, refusal.code, refusal.field) == (507, "does_not_fit", "options")
    assert "available of" in refusal.message
    assert "max_new_tokens" in refusal.message
    assert [ref() for ref in held] == [None]
    after = engine.run(requests()[:1])[0]
    assert encode(after.without_run()) == encode(before.without_run())


def test_while_records_are_made_it_is_the_same(engine: Engine, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine._builder, "build", lambda *_: (_ for _ in ()).throw(MemoryError()))
        results = engine.run(requests())
    assert [result.code for result in results] == ["does_not_fit"] * 3
    assert all(isinstance(result, Record) for result in engine.run(requests()))


def test_a_picture_that_does_not_fit_is_named(engine: Engine, monkeypatch):
    real = prepare_module.open_image

    def tight(data, *rest):
        if data == PICTURES[1]:
            raise MemoryError
        return real(data, *rest)

    monkeypatch.setattr(prepare_module, "open_image", tight)
    first, second, third = engine.run(requests())
    assert (second.code, second.field) == ("does_not_fit", "image")
    assert first.run["batch_size"] == third.run["batch_size"] == 2


def test_another_error_is_not_hidden(engine: Engine, monkeypatch):
    monkeypatch.setattr(decoders_module, "generate", lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine.run(requests())


def test_what_the_device_does_not_have_is_refused_before_anything_runs(engine: Engine, monkeypatch):
    needed = engine.estimate(requests()[0]).device_bytes
    poor = DeviceMemory("cpu", 10 * needed, needed - 1, "cgroup limit")
    monkeypatch.setattr("llava_server.fit.room.device_memory", lambda _: poor)
    monkeypatch.setattr(decoders_module, "generate", lambda *_: pytest.fail("nothing may be generated"))
    [refusal, *_] = engine.run(requests())
    assert refusal.status == 507
    assert f"got {needed} bytes of device memory, expected {needed - 1} available of {10 * needed}" in refusal.message


def test_a_batch_is_split_to_what_the_device_has(engine: Engine, monkeypatch):
    needed = engine.estimate(requests()[0]).device_bytes
    monkeypatch.setattr(
        "llava_server.fit.room.device_memory", lambda _: DeviceMemory("cpu", 9 * needed, 2 * needed, "free memory")
    )
    assert [record.run["batch_size"] for record in engine.run(requests())] == [2, 2, 1]


def test_weights_that_do_not_fit_are_refused_at_load_with_both_numbers(monkeypatch):
    monkeypatch.setattr(
        "llava_server.load.weights.device_memory", lambda _: DeviceMemory("cpu", 9000, 5000, "address space limit")
    )
    with pytest.raises(SettingsError, match=r"got \d+ bytes in float32, expected 5000 available of 9000"):
        Engine.load(ROOT / "model_store" / "llava-shapes", device="cpu")


@pytest.mark.long
def test_a_real_address_space_limit():
    """The MLP of this model is so wide that a prefill takes hundreds of MB; the process gets less, then enough."""
    process = subprocess.run(
        [sys.executable, "-m", "support.limited", str(ROOT / "model_store" / "llava-shapes")],
        env={"PYTHONPATH": f"{ROOT / 'handler'}:{ROOT / 'tests'}:{ROOT / 'scripts'}", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    report = json.loads(process.stdout)
    [(code, field, message)] = report["checked"]
    assert (code, field) == ("does_not_fit", "options")
    assert f"got {report['needed']} bytes of device memory" in message
    assert "(address space limit)" in message
    for code, field, message in report["ran out"]:
        assert (code, field) == ("does_not_fit", "options")
        assert "allocate memory" in message
    assert report["one by one"] == [1, 1, 1]
    assert report["after"] == report["before"]
    assert report["grown"] < report["needed"] / 4
