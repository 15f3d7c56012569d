"""The files of conf/deploy: nginx before a real server on both transports, systemd's unit, the container's commands."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import serve

from llava_viewer.client import Client, RequestError, StreamedToken
from servekit.models import read_model_yaml
from servekit.paths import ROOT, model_names
from servekit.ports import listening, read_properties
from servekit.server import GRACE_S
from servekit.tls import Tls
from support.asking import MODEL, Asker

DEPLOY = ROOT / "conf" / "deploy"
INFERENCE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
Proxy = Callable[[str, str], contextlib.AbstractContextManager[str]]


@pytest.fixture
def proxy(certificate: Tls, tmp_path: Path) -> Proxy:
    """Runs nginx with our file before the addresses given (HTTP, gRPC); gives its own."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no nginx: apt-get install nginx")

    @contextlib.contextmanager
    def run(http: str, calls: str) -> Iterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{probe.getsockname()[1]}"
        text = (DEPLOY / "nginx.conf").read_text("utf-8")
        for old, new in (
            ("    listen [::]:443 ssl http2;\n", ""),
            ("listen 443 ", f"listen {place} "),
            ("http://127.0.0.1:8080", http),
            ("grpc://127.0.0.1:7070", f"grpc://{calls}"),
            ("/etc/llava-gaze/certificate.pem", str(certificate.certificate)),
            ("/etc/llava-gaze/key.pem", str(certificate.private_key)),
        ):
            assert old in text
            text = text.replace(old, new)
        folder = tmp_path / place.split(":")[1]
        folder.mkdir()
        (folder / "site.conf").write_text(text)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                host, port = place.split(":")
                while not listening(host, int(port)):
                    assert process.poll() is None, (folder / "error.log").read_text()
                    time.sleep(0.05)
                yield place
            finally:
                process.terminate()
                process.wait(30)

    return run


@pytest.mark.serve
def test_nginx_passes_both_transports_and_nothing_else(
    proxy: Proxy, asker: Asker, picture: bytes, certificate: Tls
) -> None:
    key_file, trusted = Path(asker.state.key_file), certificate.certificate
    expected = asker.form(picture, "How many?").record()
    with proxy(asker.state.http, asker.state.grpc) as place:
        url = f"https://{place}"
        with (
            Client.http(url, token=key_file, ca_file=trusted, retry_s=0) as http,
            Client.grpc(place, token=key_file, ca_file=trusted, retry_s=0) as calls,
        ):
            for client in (http, calls):
                assert client.predict(picture, "How many?").tokens == expected.tokens
            parts = list(http.stream(picture, "How many?"))
            assert sum(isinstance(part, StreamedToken) for part in parts) == len(expected.tokens)
        with httpx.Client(base_url=url, verify=_trusting(certificate)) as bare:
            for path in ("/models", "/metrics", "/token?type=inference", "/v2/health/live", "/", "/explanations/x"):
                assert bare.get(path, headers=asker.auth()).status_code == 404, path
            assert bare.delete(f"/predictions/{MODEL}", headers=asker.auth()).status_code == 403
            assert bare.get("/ping", headers=asker.auth()).json()["status"] == "Healthy"
            assert "nginx/" not in bare.get("/").headers["server"]
            # More than the server's own limit, and more than the burst of one address: in the server's own form.
            large = bare.post(f"/predictions/{MODEL}", headers=asker.auth(), content=bytes((20 << 20) + 1))
            assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
            with ThreadPoolExecutor(8) as pool:
                many = list(pool.map(lambda _: bare.get(f"/predictions/{MODEL}"), range(100)))
            refused = [reply for reply in many if reply.status_code == 503]
            assert refused
            assert {reply.json()["error"]["code"] for reply in refused} == {"overloaded"}
            assert {reply.status_code for reply in many} == {400, 503}


@pytest.mark.serve
def test_nginx_says_over_grpc_what_it_refuses(proxy: Proxy, asker: Asker, picture: bytes, certificate: Tls) -> None:
    with proxy(asker.state.http, asker.state.grpc) as place, _channel(place, certificate) as channel:
        metadata = tuple((key.lower(), value) for key, value in asker.auth().items())
        codes = grpc.StatusCode
        # Whoever counts to 20 MiB first: nginx, or the server, whose reset of the stream nginx takes for its end.
        for method, request, allowed in (
            (f"{INFERENCE}Predictions", bytes((20 << 20) + 1), {codes.RESOURCE_EXHAUSTED, codes.UNAVAILABLE}),
            ("/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels", b"", {codes.UNIMPLEMENTED}),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(request, metadata=metadata, timeout=30)
            assert caught.value.code() in allowed
        workers = asker.workers()
        assert workers[0][0] == "READY"


@pytest.mark.serve
def test_nginx_without_a_server_behind_it(proxy: Proxy, picture: bytes, certificate: Tls) -> None:
    trusted = certificate.certificate
    with proxy("http://127.0.0.1:9", "127.0.0.1:9") as place:
        answer = httpx.get(f"https://{place}/predictions/x", verify=_trusting(certificate))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        for client in (
            Client.http(f"https://{place}", model=MODEL, token="x" * 16, ca_file=trusted, retry_s=0),
            Client.grpc(place, model=MODEL, token="x" * 16, ca_file=trusted, retry_s=0),
        ):
            with client, pytest.raises(RequestError) as caught:
                client.predict(picture, "How many?")
            assert caught.value.code == "unavailable"


def _trusting(certificate: Tls) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.certificate))


def _channel(place: str, certificate: Tls) -> grpc.Channel:
    return grpc.secure_channel(place, grpc.ssl_channel_credentials(certificate.certificate.read_bytes()))


def test_nginx_takes_what_the_server_takes_and_waits_as_long() -> None:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    [most] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(most) << 20 == int(read_properties()["max_request_size"])
    for directive in ("proxy_read_timeout", "grpc_read_timeout"):
        waits = [int(seconds) for seconds in re.findall(rf"{directive} (\d+)s;", text)]
        assert max(waits) > _longest_timeout_s()


def _longest_timeout_s() -> int:
    return max(int(read_model_yaml(model)["responseTimeout"]) for model in model_names())


def _given(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The arguments of serve.py in a command line."""
    monkeypatch.setattr(sys, "argv", words[words.index("scripts/serve.py") :])
    return serve._arguments()


def test_the_unit_is_one_and_leaves_a_stop_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "llava-gaze.service").read_text("utf-8")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    given = _given(shlex.split(settings["ExecStart"]), monkeypatch)
    assert (given.models, given.no_build, given.restart, given.background) == ([MODEL], True, True, False)
    assert int(settings["TimeoutStopSec"]) > given.grace + GRACE_S
    assert int(settings["TimeoutStartSec"]) > given.timeout
    assert (settings["Type"], settings["KillMode"]) == ("notify", "mixed")
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    unit = tmp_path / "llava-gaze.service"
    unit.write_text(
        text.replace("/opt/llava-gaze/.venv/bin/python", sys.executable).replace("/opt/llava-gaze", str(ROOT))
    )
    answer = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not [line for line in answer.stderr.splitlines() if unit.name in line], answer.stderr


def test_the_containers_commands_are_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    lines = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    given = _given(json.loads(lines["ENTRYPOINT"]) + json.loads(lines["CMD"]), monkeypatch)
    assert (given.models, given.no_build, given.background) == ([MODEL], True, False)
    assert lines["STOPSIGNAL"] == "SIGTERM"
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file()
    runs = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    assert len(runs) == 2
    for run in runs:
        subprocess.run(["sh", "-n", "-c", run], check=True, timeout=60)
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
