"""Maps in blocks out of the engine: those of the exact record, folded on the device; alone, replayed, refused."""

from __future__ import annotations

import numpy as np
import pytest

from llava_server.answer.response import to_response
from llava_server.ask.request import GenerateRequest
from llava_wire import RequestError, decode, encode
from llava_wire.codes.quantize import restored, store

PROMPT = "Describe the image."
VIEWS = {"layers": "all", "heads": "all", "reduction": "none"}
EVERY = {**VIEWS, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def exact(engine, pictures):
    """The record of all heads in float32."""
    return engine.run([GenerateRequest.build(pictures[0], PROMPT, {**EVERY, "precision": "float32"})])[0]


def same(record, exact):
    """Holds a record in blocks against the exact one."""
    view, other = record.view(), exact.view()
    wanted = store(other.patches_float(), "blocks", [(8, 8)])
    assert (view.facts.precision, view.facts.encoding) == ("blocks", "blocks-u8")
    np.testing.assert_allclose(
        view.maps_float(), restored(wanted, [(8, 8)]).reshape(other.maps_float().shape), atol=1e-5
    )
    assert np.abs(view.stored.astype(int) - wanted.codes).max() <= 1
    assert np.abs(view.maps_float() - other.maps_float()).max() <= view.facts.error_bound + 1e-5
    assert view.facts.block_error_bound <= 1e-3
    np.testing.assert_allclose(view.maps_float().max((-1, -2)), other.maps_float().max((-1, -2)), atol=1e-5)
    np.testing.assert_allclose(view.shares, other.shares, atol=1e-5)


def test_they_are_the_exact_maps_in_blocks(engine, pictures, exact):
    request = GenerateRequest.build(pictures[0], PROMPT, {**EVERY, "precision": "blocks"})
    record = engine.run([request])[0]
    same(record, exact)
    data = to_response(record, "npz")[0]
    assert len(data) <= engine.estimate(request).response_bytes
    assert encode(decode(data)) == data


def test_a_replay_in_blocks(engine, pictures, exact):
    replayed = GenerateRequest.replay(exact, {**VIEWS, "precision": "blocks"}, pictures[0])
    same(engine.run([replayed])[0], exact)


def test_what_is_no_share_is_refused_before_anything_runs(engine, pictures):
    options = {"precision": "blocks", "views": [{"name": "a"}, {"name": "b", "method": "contributions"}]}
    error = engine.run([GenerateRequest.build(pictures[0], PROMPT, options)])[0]
    assert isinstance(error, RequestError)
    assert (error.status, error.field) == (422, "options.precision")
    assert "'contributions'" in error.message
