"""Good requests over every way in: same answer, right form, right keys."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from serve import describe

from llava_server.front.metrics import KINDS, STAGES
from llava_viewer.cli import main
from llava_viewer.client import Client
from llava_viewer.look.picture import check_picture, prepare_picture
from llava_wire import decode, encode
from servekit.paths import ROOT
from support.asking import MODEL, NPZ, Asker
from support.pictures import phone, scene

pytestmark = pytest.mark.serve
PROMPT = "Describe the image from left to right."
OPTIONS = [
    None,
    {"precision": "float32", "views": [{"name": "all", "reduction": "none"}]},
    {"heads": [[2, 4], [0, 5]], "reduction": "none", "precision": "float16"},
    {"temperature": 0.9, "seed": 7, "max_new_tokens": 5, "rows": "both"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["defaults", "float32", "pairs", "sampled"])
def test_form_json_and_grpc_give_the_same_record(asker: Asker, picture: bytes, options: dict | None) -> None:
    form = asker.form(picture, PROMPT, options)
    assert (form.status, form.content_type) == (200, NPZ), form.body[:500]
    kept = form.lasting()
    assert asker.json(picture, PROMPT, options).lasting() == kept
    assert asker.grpc(picture, PROMPT, options).lasting() == kept


@pytest.mark.parametrize("fmt", ["AVIF", "HEIF"])
def test_a_phones_picture_is_answered_over_every_way_in(asker: Asker, fmt: str) -> None:
    """The archive holds what decodes it in a process of its own."""
    data = phone(fmt, scene(200, 160, 4))
    form = asker.form(data, PROMPT)
    assert (form.status, form.content_type) == (200, NPZ), form.body[:500]
    assert asker.grpc(data, PROMPT).lasting() == form.lasting()
    record = form.record()
    assert check_picture(record, prepare_picture(data)[1]) is None
    assert asker.form(data[:200], PROMPT).status in (415, 422)


def test_run_block_names_the_request_and_the_way_in(asker: Asker, picture: bytes) -> None:
    over_http = asker.form(picture, PROMPT).record().run
    over_grpc = asker.grpc(picture, PROMPT).record().run
    assert (over_http["transport"], over_grpc["transport"]) == ("http", "grpc")
    assert over_http["request_id"] != over_grpc["request_id"]
    assert over_http["batch_size"] == 1


def test_the_request_id_is_in_the_header_too(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture, "image/png"), "prompt": (None, PROMPT)}
    got = asker.http_client.post(f"/predictions/{MODEL}", files=files, headers={**asker.auth(), "Accept": NPZ})
    assert got.headers["x-request-id"] == decode(got.content).run["request_id"]


@pytest.mark.parametrize(
    ("accept", "options", "expected"),
    [
        ("*/*", None, "application/json"),
        ("", None, "application/json"),
        ("application/json", None, "application/json"),
        ("text/html, application/xml;q=0.9", None, "application/json"),
        (NPZ, None, NPZ),
        ("application/octet-stream", None, NPZ),
        (f"application/json;q=0.5, {NPZ}", None, NPZ),
        (NPZ, {"format": "json"}, "application/json"),
        ("application/json", {"format": "npz"}, NPZ),
    ],
)
def test_options_then_accept_decide_the_form(
    asker: Asker, picture: bytes, accept: str, options: dict | None, expected: str
) -> None:
    answer = asker.form(picture, "Is there a red circle?", options, accept=accept)
    assert (answer.status, answer.content_type) == (200, expected)


def test_json_form_carries_the_facts_and_the_file(asker: Asker, picture: bytes) -> None:
    content = json.loads(asker.form(picture, PROMPT, accept="application/json").body)
    record = decode(base64.b64decode(content["npz_base64"]))
    assert content["answer"] == record.answer
    assert [token["id"] for token in content["record"]["tokens"]] == [token.id for token in record.tokens]
    assert encode(record.without_run()) == asker.form(picture, PROMPT).lasting()


def test_grpc_can_ask_for_json(asker: Asker, picture: bytes) -> None:
    answer = asker.grpc(picture, PROMPT, {"format": "json"})
    assert json.loads(answer.body)["answer"] == answer.record().answer


def test_numpy_alone_opens_the_answer(asker: Asker, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.npz").write_bytes(asker.form(picture, PROMPT).body)
    with np.load(tmp_path / "run.npz", allow_pickle=False) as members:
        facts = json.loads(
            members["record.json"].tobytes() if hasattr(members["record.json"], "tobytes") else members["record.json"]
        )
        assert members["views/0/maps"].shape[0] == len(facts["queries"])


def test_base64_may_be_wrapped(asker: Asker, picture: bytes) -> None:
    body = {"image": base64.encodebytes(picture).decode(), "prompt": PROMPT}
    assert asker.post(json=body, headers={"Accept": NPZ}).lasting() == asker.form(picture, PROMPT).lasting()


def test_header_names_in_any_case(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture, "image/png"), "prompt": (None, PROMPT)}
    answer = asker.post(files=files, headers={"ACCEPT": NPZ})
    assert answer.content_type == NPZ


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documented_curl_command(asker: Asker, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture)
    command = (
        f'curl -s -H "Authorization: Bearer $({sys.executable} {ROOT}/scripts/make_token.py'
        f' --name {asker.state.name})" -F image=@x.png -F prompt="{PROMPT}" {asker.state.http}/predictions/{MODEL}'
    )
    answer = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True, timeout=120)
    assert json.loads(answer.stdout)["answer"] == asker.form(picture, PROMPT).record().answer


def test_the_command_needs_no_key_and_no_model(
    asker: Asker, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)
    (tmp_path / "x.png").write_bytes(picture)
    expected = asker.form(picture, PROMPT).record().answer
    printed = next(line for line in describe(asker.state).splitlines() if line.startswith("HTTP")).split()[-1]
    for where in (["--name", asker.state.name], ["--name", asker.state.name, "--grpc"], ["--url", printed]):
        assert main(["predict", str(tmp_path / "x.png"), PROMPT, *where]) == 0
        assert capsys.readouterr().out.strip() == expected
    assert main(["predict", str(tmp_path / "x.png"), PROMPT, "--url", printed.replace(MODEL, "none")]) == 1
    assert f"got an unknown model 'none', expected one that is served here: {MODEL}" in capsys.readouterr().err


def test_make_ping_says_ready(asker: Asker) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "ping.py"), "--name", asker.state.name]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == f"{MODEL}: Healthy, workers READY\n"


def test_a_wrong_key_is_refused(asker: Asker, picture: bytes) -> None:
    answer = asker.post(headers={"Authorization": "Bearer wrong"}, files={"prompt": (None, "x")})
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == "unauthorized"
    assert httpx.post(f"{asker.state.http}/predictions/{MODEL}").status_code == 400
    call = asker.channel.unary_unary("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=(("authorization", "Bearer wrong"),), timeout=30)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_key_file_is_private(asker: Asker) -> None:
    assert Path(asker.state.key_file).stat().st_mode & 0o077 == 0
    assert Path(asker.state.key_file).parent.stat().st_mode & 0o077 == 0


def test_models_cannot_be_registered(asker: Asker) -> None:
    from servekit.state import current_token

    key = {"Authorization": f"Bearer {current_token(asker.state, 'management')}"}
    answer = httpx.post(f"{asker.state.management}/models", params={"url": "http://127.0.0.1:1/x.mar"}, headers=key)
    assert answer.status_code == 405


def test_metrics_are_served(asker: Asker, picture: bytes) -> None:
    asker.form(picture, PROMPT)
    asker.grpc(picture, None)
    text = httpx.get(f"{asker.state.metrics}/metrics").text
    assert "ts_inference_requests_total{model_name=" in text
    for name, kind in KINDS.items():
        assert f"# TYPE {name} {kind.type}" in text
    assert re.search(r'llava_requests_total\{model="llava-shapes",transport="http",outcome="ok",.*\} [1-9]', text)
    assert re.search(
        r'llava_requests_total\{model="llava-shapes",transport="grpc",outcome="bad_request",.*\} [1-9]', text
    )
    for stage in STAGES:
        assert re.search(rf'llava_stage_seconds_count\{{model="llava-shapes",stage="{stage}",.*\}} [1-9]', text)
    labels = 'model="llava-shapes",worker="9[0-9]+",device="cpu",kind="used",'
    assert re.search(rf"llava_device_memory_bytes\{{{labels}.*\}} [1-9.E]+", text)


def test_asking_whether_a_model_is_ready_counts_in_no_figure(asker: Asker, picture: bytes) -> None:
    asker.form(picture, PROMPT)
    log = Path(asker.state.logs) / "requests.jsonl"

    def counted() -> tuple[list[str], list[str]]:
        text = httpx.get(f"{asker.state.metrics}/metrics").text
        figures = [line for line in text.splitlines() if re.match("llava_(requests|batch_size)", line)]
        return figures, log.read_text("utf-8").splitlines()

    before, again = None, counted()
    while before != again or not again[0]:  # figures reach TorchServe a moment after the answer
        time.sleep(1)
        before, again = again, counted()
    for make, address in ((Client.http, asker.state.http), (Client.grpc, asker.state.grpc)):
        with make(address, token=Path(asker.state.key_file)) as client:
            assert [client.ready() for _ in range(3)] == [True] * 3
    answer = asker.post(files={"ready": (None, "1")})
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ready", "model": MODEL})
    assert counted() == before


def test_the_log_has_one_line_per_request_and_no_prompt(asker: Asker, picture: bytes) -> None:
    secret = "Is there a zebra-4711?"
    request_id = asker.form(picture, secret).record().run["request_id"]
    lines = (Path(asker.state.logs) / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    mine = [json.loads(line) for line in lines if request_id in line]
    assert [line["outcome"] for line in mine] == ["ok"]
    assert mine[0]["tokens"] > 0
    assert abs(datetime.fromisoformat(mine[0]["time"]) - datetime.now(UTC)) < timedelta(minutes=1)
    for log in Path(asker.state.logs).iterdir():
        assert "zebra-4711" not in log.read_text(encoding="utf-8", errors="replace")
