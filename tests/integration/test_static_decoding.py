"""Decoding on static buffers, uncompiled and compiled: exact like the growing cache, and compiled once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from integration.reference import eager_run
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.engine import Engine
from llava_server.load.memory import DeviceMemory
from llava_server.run.compiling import buffer_bytes, compiled_decoder
from llava_server.run.static import StaticDecoder
from llava_wire import Record

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 24}
TOLERANCE = 1e-6


def run(engine: Engine, pictures: list[bytes], prompts: list[str], options: dict) -> list[Record]:
    results = engine.run([GenerateRequest.build(p, q, options) for p, q in zip(pictures, prompts, strict=True)])
    assert all(isinstance(result, Record) for result in results), results
    return results


def check(engine: Engine, reference, pictures: list[bytes], prompts: list[str]) -> list[Record]:
    records = run(engine, pictures, prompts, EVERYTHING)
    expected = eager_run(reference, engine.loaded.processor, pictures, prompts, 24)
    for record, wanted in zip(records, expected, strict=True):
        assert record.run["decoder"] in ("static", "compiled")
        assert [token.id for token in record.tokens] == wanted.tokens
        np.testing.assert_allclose(record.maps_float(), wanted.maps, atol=TOLERANCE, rtol=0)
        shares = record.views["selection"].shares
        np.testing.assert_allclose(shares[..., 0], wanted.bos, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    return records


@pytest.mark.parametrize("batch", [1, 3])
def test_every_map_equals_eager_output_attentions(batch, static_engine, eager, pictures):
    check(static_engine, eager, pictures[:batch], PROMPTS[:batch])


@pytest.mark.parametrize("batch", [1, 3])
def test_grouped_query_heads_too(batch, static_grouped, pictures):
    check(*static_grouped, pictures[:batch], PROMPTS[:batch])


def test_what_an_earlier_batch_left_in_the_buffers_changes_nothing(static_engine, pictures):
    before = run(static_engine, pictures[:1], PROMPTS[:1], EVERYTHING)[0]
    for bucket in static_engine._static.buckets:
        for tensor in (*bucket.keys, *bucket.values, *bucket.queries):
            tensor.fill_(float("nan"))
    after = run(static_engine, pictures[:1], PROMPTS[:1], EVERYTHING)[0]
    np.testing.assert_array_equal(before.maps_float(), after.maps_float())
    three = run(static_engine, pictures, PROMPTS, EVERYTHING)
    assert all(np.isfinite(record.maps_float()).all() for record in three)


def test_sampling_rows_steps_and_early_stops_are_those_of_the_growing_cache(static_engine, engine, pictures):
    options = [
        {"temperature": 3.0, "seed": 5, "max_new_tokens": 12, "precision": "float32"},
        {"rows": "both", "max_new_tokens": 5, "precision": "float32", "views": [{"name": "pair", "heads": [[2, 4]]}]},
        {"steps": [0, 3], "max_new_tokens": 30, "precision": "float32", "reduction": "none"},
    ]
    requests = [GenerateRequest.build(p, q, o) for p, q, o in zip(pictures, PROMPTS, options, strict=True)]
    for ours, theirs in zip(static_engine.run(requests), engine.run(requests), strict=True):
        assert ours.facts == theirs.facts or [t.id for t in ours.tokens] == [t.id for t in theirs.tokens]
        assert ours.queries == theirs.queries
        for name, view in theirs.views.items():
            np.testing.assert_allclose(ours.views[name].maps_float(), view.maps_float(), atol=TOLERANCE, rtol=0)


def test_what_fits_no_bucket_takes_the_growing_cache(static_engine, pictures):
    long = run(static_engine, pictures[:1], PROMPTS[:1], {"max_new_tokens": 200})[0]
    wide = run(static_engine, pictures[:2] * 3, PROMPTS[:2] * 3, {"max_new_tokens": 8})
    assert long.run["decoder"] == "dynamic"
    assert {record.run["decoder"] for record in wide} == {"dynamic"}
    fitting = run(static_engine, pictures[:1], PROMPTS[:1], {"max_new_tokens": 8})[0]
    assert fitting.run["decoder"] in ("static", "compiled")


def test_requests_of_every_kind_compile_nothing_after_the_warm_up(static_engine, pictures):
    check_nothing_is_compiled(static_engine, pictures, (1, 2, 3))


def test_a_compiled_step_is_exact_and_compiled_once(compiled_engine, eager, pictures):
    [record] = check(compiled_engine, eager, pictures[:1], PROMPTS[:1])
    assert record.run["decoder"] == "compiled"
    check_nothing_is_compiled(compiled_engine, pictures, (1,))


def check_nothing_is_compiled(engine: Engine, pictures: list[bytes], counts: tuple[int, ...]) -> None:
    """Requests with other options, in batches of these sizes."""
    from torch._dynamo.utils import counters

    before = (counters["stats"]["unique_graphs"], dict(counters["graph_break"]))
    for options in (
        {"max_new_tokens": 3},
        {**EVERYTHING, "max_new_tokens": 17},
        {"rows": "both", "views": [{"name": "a", "layers": [1]}, {"name": "b", "heads": [[0, 1], [3, 3]]}]},
        {"temperature": 1.0, "seed": 1, "top_k": 4},
    ):
        for count in counts:
            run(engine, pictures[:count], PROMPTS[:count], options)
    assert (counters["stats"]["unique_graphs"], dict(counters["graph_break"])) == before
    assert not counters["graph_break"]


def test_compile_in_the_settings_builds_warmed_buckets(engine, monkeypatch):
    settings = replace(engine.settings, compile=True, compile_batches=(2,), compile_text_tokens=(64, 9999))
    # The graphs themselves are tested above; here their number and sizes.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    decoder = compiled_decoder(engine.loaded, settings)
    assert [(bucket.batch, bucket.length) for bucket in decoder.buckets] == [(2, 128), (2, 512)]
    assert all(int(bucket.slot) == bucket.first_slot + 3 for bucket in decoder.buckets)
    largest = decoder.buckets[-1]
    held = sum(tensor.untyped_storage().nbytes() for tensor in (*largest.keys, *largest.values, *largest.queries))
    assert buffer_bytes(engine.loaded.facts, engine.loaded.layout([(640, 480)]).patches, settings) == held


def test_buffers_that_do_not_fit_are_refused_at_load_with_both_numbers(engine, monkeypatch):
    settings = replace(engine.settings, compile=True)
    few = DeviceMemory("cpu", 1 << 30, 1000, "free memory")
    monkeypatch.setattr("llava_server.run.compiling.device_memory", lambda _: few)
    with pytest.raises(SettingsError, match=r"handler.compile: got buffers of \d+ bytes, expected 1000 available"):
        compiled_decoder(engine.loaded, settings)


def test_without_a_compiler_the_settings_say_what_to_do(engine, monkeypatch):
    def missing(*_: object) -> None:
        raise torch._inductor.exc.InvalidCxxCompiler

    monkeypatch.setattr("llava_server.run.static.StaticDecoder.warm_up", missing)
    with pytest.raises(SettingsError, match=r"handler.compile: got true without a C\+\+ compiler.*install g\+\+"):
        compiled_decoder(engine.loaded, replace(engine.settings, compile=True))


@pytest.mark.long
def test_decoders_of_one_process_compile_all_their_buckets(engine, monkeypatch):
    real = torch.compile
    # Which graphs there are is dynamo's part; what makes them fast takes minutes and is tested above.
    monkeypatch.setattr(
        torch, "compile", lambda function, **_: real(function, fullgraph=True, dynamic=False, backend="eager")
    )
    for sizes in ((5, 6, 7), (8, 9, 10), (11, 12, 13), (14, 15, 16)):
        StaticDecoder(engine.loaded, sizes, (40,)).warm_up()


@pytest.mark.parametrize(("batches", "extra"), [((1,), (128,)), ((1, 4), (24,)), ((2,), (64, 128))])
def test_the_self_test_tries_every_bucket(engine: Engine, batches: tuple[int, ...], extra: tuple[int, ...]) -> None:
    """A step whose logits are all nought must be found, whatever the buckets are."""
    from llava_server.check.selftest import self_test

    decoder = StaticDecoder(engine.loaded, batches, extra, compiled=False)
    assert self_test(engine.loaded, decoder)["result"] == "passed"
    for broken in decoder.buckets:
        step = decoder.step
        decoder.step = lambda bucket, ids, broken=broken, step=step: (  # type: ignore[method-assign]
            step(bucket, ids) * (0.0 if bucket is broken else 1.0)
        )
        with pytest.raises(
            SettingsError, match=r"got log probabilities that differ by .* from decoding without compile"
        ):
            self_test(engine.loaded, decoder)
        decoder.step = step  # type: ignore[method-assign]
