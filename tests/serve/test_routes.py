"""Routes that this model does not speak are answered or refused, and never cost the worker its life."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import grpc
import pytest

from llava_viewer.client.transport.messages import PREDICTIONS, messages
from servekit.drain import duty_folder
from servekit.paths import run_folder
from servekit.ports import read_properties
from support.asking import MODEL, Asker

pytestmark = pytest.mark.serve
PROMPT = "Is there a blue square?"


@pytest.fixture(autouse=True)
def same_worker(asker: Asker, picture: bytes) -> Iterator[None]:
    """The same worker, by pid, is ready and answers after each test."""
    before = asker.workers()
    assert [status for status, _ in before] == ["READY"]
    yield
    assert asker.form(picture, PROMPT).status == 200
    assert asker.grpc(picture, PROMPT).status == 200
    assert asker.workers() == before


def test_stream_predictions(asker: Asker, picture: bytes) -> None:
    parts = asker.stream({"image": picture, "prompt": PROMPT.encode()})
    assert [part.lasting() for part in parts] == [asker.grpc(picture, PROMPT).lasting()]


def test_stream_predictions_of_bad_requests(asker: Asker, picture: bytes) -> None:
    for fields in ({}, {"image": b"x", "prompt": b"y"}, {"image": picture, "prompt": b"x", "options": b"{"}):
        parts = asker.stream(fields)
        assert len(parts) == 1
        assert parts[0].error["status"] >= 400


def test_explanations(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture, "image/png"), "prompt": (None, PROMPT)}
    answer = asker.post(f"/explanations/{MODEL}", files=files)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [f"/v1/models/{MODEL}:predict", f"/v1/models/{MODEL}:explain", f"/v2/models/{MODEL}/infer",
     f"/v2/models/{MODEL}/explain"],
)  # fmt: skip
@pytest.mark.parametrize("body", [{"instances": [{"data": "x"}]}, {"inputs": []}, [], {}])
def test_kserve_routes(asker: Asker, path: str, body: object) -> None:
    answer = asker.post(path, json=body)
    assert answer.error["status"] == answer.status
    assert answer.status in (400, 404)


@pytest.mark.parametrize("path", ["/v2/health/ready", f"/v2/models/{MODEL}", "/v2", "/nothing"])
def test_other_paths(asker: Asker, path: str) -> None:
    assert asker.http_client.get(path, headers=asker.auth()).status_code in (404, 405)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(asker: Asker, method: str) -> None:
    assert asker.http_client.request(method, f"/predictions/{MODEL}", headers=asker.auth()).status_code in (
        200,
        400,
        405,
    )


def test_form_parts_named_like_headers(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture, "image/png"), "prompt": (None, PROMPT), "content-type": (None, "x/y")}
    answer = asker.post(files={**files, "explain": (None, "True")})
    assert (answer.status, answer.error["code"]) == (422, "invalid")


def test_a_probe_by_name_over_both_transports(asker: Asker, picture: bytes) -> None:
    """At TorchServe's own ports, where the front sends it; from strangers the front takes it away."""
    properties = read_properties(run_folder(asker.state.name) / "config.properties")
    path = f"{properties['inference_address']}/predictions/{MODEL}"
    for body in ({}, {"content": b"x" * 5000}, {"files": {"image": ("x.png", picture, "image/png")}}):
        got = asker.http_client.post(path, headers={**asker.auth(), "X-Llava-Gaze-Probe": "1"}, **body)
        assert (got.status_code, got.headers["content-type"], got.json()) == (200, "application/json", {"ready": True})
    got = asker.http_client.get(path, headers={**asker.auth(), "x-llava-gaze-probe": "1"})
    assert (got.status_code, got.json()) == (200, {"ready": True})
    asked = messages().PredictionsRequest(model_name=MODEL, input={"x-llava-gaze-probe": b"1"})
    with grpc.insecure_channel(f"127.0.0.1:{properties['grpc_inference_port']}") as channel:
        metadata = (("authorization", asker.auth()["Authorization"]),)
        got = channel.unary_unary(PREDICTIONS)(asked.SerializeToString(), metadata=metadata, timeout=30)
    assert messages().PredictionResponse.FromString(got).prediction == b'{"ready": true}'
    assert asker.grpc_map({"x-llava-gaze-probe": b"1"}).error["code"] == "bad_request"
    assert asker.post(headers={"x-llava-gaze-probe": "1"}).status == 400
    assert asker.post(headers={"x-llava-gaze-probe": "2"}).status == 400


def test_every_worker_has_a_heartbeat(asker: Asker) -> None:
    [(_, pid)] = asker.workers()
    path = duty_folder(asker.state.name) / f"{pid}.beat"
    said, end = json.loads(path.read_text()), time.monotonic() + 60
    assert (said["pid"], said["model"]) == (pid, MODEL)
    while json.loads(path.read_text())["written"] == said["written"]:
        assert time.monotonic() < end, "no second beat"
        time.sleep(0.05)


def test_hostile_header_values(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture, "image/png"), "prompt": (None, PROMPT)}
    for accept in (b"\xff\xfe", b"a" * 4000, b";;q=,,;q=nan, application/x-npz;q=x", b"q=1e999"):
        got = asker.http_client.post(
            f"/predictions/{MODEL}", files=files, headers=[(b"Accept", accept), (b"Authorization", _key(asker))]
        )
        assert got.status_code == 200
        assert got.headers["content-type"] == "application/json"


def _key(asker: Asker) -> bytes:
    return asker.auth()["Authorization"].encode()
