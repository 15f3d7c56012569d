"""Who gets in and what gets out: keys, TLS, addresses, and nothing that would run or fetch a stranger's code."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from llava_viewer.client import Client, RequestError, ServerUnreachable
from servekit import state as servekit_state
from servekit.paths import CONFIG, HANDLER_ROOT, ROOT, SetupError, run_folder
from servekit.ports import read_properties
from servekit.server import start_server
from servekit.state import read_keys
from servekit.tls import Tls
from support.asking import MODEL, Asker

PROMPT = "What color is the square?"


@pytest.fixture(scope="module")
def guarded(built_archive: Path, certificate: Tls) -> Iterator[Asker]:
    """A server with TLS on both inference ports."""
    name = f"test-tls-{os.getpid()}"
    with start_server([MODEL], name=name, ports="auto", tls=certificate) as server:
        one = Asker(server.state)
        yield one
        one.close()
    shutil.rmtree(run_folder(name), ignore_errors=True)


@pytest.mark.serve
def test_tls_on_both_transports(guarded: Asker, certificate: Tls, picture: bytes, asker: Asker) -> None:
    key_file, trusted = Path(guarded.state.key_file), certificate.certificate
    assert guarded.state.http.startswith("https://127.0.0.1:")
    expected = asker.form(picture, PROMPT).lasting()
    assert guarded.form(picture, PROMPT).lasting() == expected
    assert guarded.grpc(picture, PROMPT).lasting() == expected
    with Client.http(guarded.state.http, token=key_file, ca_file=trusted, retry_s=0) as client:
        assert client.predict(picture, PROMPT).answer
        assert list(client.stream(picture, PROMPT))
    with Client.grpc(guarded.state.grpc, token=key_file, ca_file=trusted, retry_s=0) as client:
        assert client.predict(picture, PROMPT).answer


@pytest.mark.serve
def test_an_unknown_certificate_and_a_plain_connection_get_nowhere(guarded: Asker, picture: bytes) -> None:
    key_file = Path(guarded.state.key_file)
    plain = guarded.state.http.replace("https://", "http://")
    for client, code in (
        (Client.http(guarded.state.http, token=key_file, retry_s=0), "unavailable"),
        (Client.http(plain, token=key_file, retry_s=0), "unavailable"),
        (Client.grpc(guarded.state.grpc, token=key_file, retry_s=0, timeout_s=10), "unavailable"),
        (Client.grpc(guarded.state.grpc, token=key_file, retry_s=0, timeout_s=10, tls=True), "unavailable"),
    ):
        with client, pytest.raises(RequestError) as caught:
            client.predict(picture, PROMPT)
        assert caught.value.code == code


@pytest.mark.serve
@pytest.mark.parametrize("token", ["wrong", "", None])
def test_without_the_key_nothing_is_answered_on_either_transport(
    asker: Asker, picture: bytes, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)
    management = read_keys(asker.state)["management"]["key"]
    for key in (token, management):
        for make, address in ((Client.http, asker.state.http), (Client.grpc, asker.state.grpc)):
            with make(address, token=key) as client, pytest.raises(RequestError) as caught:
                client.predict(picture, PROMPT)
            assert (caught.value.code, caught.value.field) == ("unauthorized", "token")
    assert httpx.get(f"{asker.state.http}/api-description").status_code == 400
    assert httpx.options(f"{asker.state.http}/").status_code == 400
    assert httpx.get(f"{asker.state.http}/ping").json() == {"status": "Healthy"}
    assert httpx.get(f"{asker.state.management}/models").status_code == 400


@pytest.mark.serve
def test_long_running_clients_outlive_a_key(guarded: Asker, certificate: Tls, picture: bytes) -> None:
    """A client with the key file goes on after a renewal, which kills the old key at once."""
    key_file, trusted = Path(guarded.state.key_file), certificate.certificate
    first = read_keys(guarded.state)["inference"]["key"]
    with (
        Client.http(guarded.state.http, token=key_file, ca_file=trusted) as http,
        Client.grpc(guarded.state.grpc, token=key_file, ca_file=trusted) as grpc,
        Client.http(guarded.state.http, token=first, ca_file=trusted) as stale,
    ):
        assert stale.predict(picture, PROMPT).answer
        servekit_state.call(guarded.state, "/token?type=inference", read_keys(guarded.state)["API"]["key"])
        assert read_keys(guarded.state)["inference"]["key"] != first
        for client in (http, grpc):
            assert client.predict(picture, PROMPT).answer
        with pytest.raises(RequestError, match="expired key"):
            stale.predict(picture, PROMPT)
        assert Path(guarded.state.key_file).stat().st_mode & 0o777 == 0o600


@pytest.mark.serve
def test_every_port_listens_on_this_machine_alone(asker: Asker) -> None:
    java = psutil.Process(asker.state.pid)
    addresses = {c.laddr.ip.removeprefix("::ffff:") for c in java.net_connections("inet") if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


@pytest.mark.serve
def test_models_cannot_be_brought_or_taken_over_the_network(asker: Asker) -> None:
    key = {"Authorization": f"Bearer {read_keys(asker.state)['management']['key']}"}
    for method, path in (
        ("POST", "/models?url=https://example.org/x.mar"),
        ("POST", "/models?url=file:///tmp/x.mar"),
        ("DELETE", f"/models/{MODEL}"),
        ("DELETE", f"/models/{MODEL}/1.0"),
    ):
        assert httpx.request(method, asker.state.management + path, headers=key).status_code == 405
    assert [status for status, _ in asker.workers()] == ["READY"]


@pytest.mark.serve
def test_a_url_in_place_of_a_picture_is_not_fetched(asker: Asker) -> None:
    fetched: list[str] = []
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.png"
        for image in (url, "file:///etc/passwd", "/etc/passwd"):
            answer = asker.post(json={"image": image, "prompt": PROMPT})
            assert answer.status in (400, 415)
            assert b"root:" not in answer.body
            refused = 400 if "://" in image else 415  # an address by its own name, anything else as no image
            assert asker.form(image.encode(), PROMPT).status == refused
            assert asker.grpc(image.encode(), PROMPT).status == refused
        server.shutdown()
    assert fetched == []


@pytest.mark.serve
def test_probes(asker: Asker) -> None:
    def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "ping.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    name = asker.state.name
    assert (probe("--name", name).returncode, probe("--name", name, "--alive").returncode) == (0, 0)
    mark = run_folder(name) / "duty" / "drain.json"
    mark.write_text("{}")
    try:
        stopping = probe("--name", name)
        assert (stopping.returncode, "stopping" in stopping.stdout) == (1, True)
        assert probe("--name", name, "--alive").returncode == 0
    finally:
        mark.unlink()
    [(_, pid)] = asker.workers()
    psutil.Process(pid).kill()
    end = time.monotonic() + 30
    while probe("--name", name).returncode == 0 and time.monotonic() < end:
        pass
    assert probe("--name", name, "--alive").returncode == 0
    while (code := probe("--name", name).returncode) != 0 and time.monotonic() < end + 60:
        time.sleep(0.5)
    assert code == 0
    assert probe("--name", "nobody").returncode == 1


def test_keys_and_certificates_that_do_not_fit(certificate: Tls, tmp_path: Path) -> None:
    certificate.check()
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(other), "2048"], check=True, capture_output=True, timeout=60)
    with pytest.raises(SetupError, match="its own key"):
        Tls(certificate.certificate, other).check()
    with pytest.raises(SetupError, match="private key: got no file"):
        Tls(certificate.certificate, tmp_path / "none.pem").check()
    old = tmp_path / "old.pem"
    command = ["openssl", "rsa", "-traditional", "-in", str(certificate.private_key), "-out", str(old)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    Tls(certificate.certificate, old).check()


def test_the_properties_that_keep_strangers_out() -> None:
    properties = read_properties(CONFIG)
    for key in ("inference_address", "management_address", "metrics_address"):
        assert properties[key].startswith("http://127.0.0.1:")
    for key in ("grpc_inference_address", "grpc_management_address"):
        assert properties[key] == "127.0.0.1"
    assert properties["disable_token_authorization"] == "false"
    assert properties["enable_model_api"] == "false"
    assert properties["enable_envvars_config"] == "false"
    assert properties["install_py_dep_per_model"] == "false"
    assert not re.search(r"https?|\.\*$(?<!nonexistent/\.\*)", properties["allowed_urls"])
    assert "cors_allowed_origin" not in properties


_RUNS_OR_FETCHES = {
    "pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "urllib.request", "requests", "httpx",
    "http.client", "socket", "subprocess", "ftplib",
}  # fmt: skip


def _code() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(HANDLER_ROOT.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def test_the_server_neither_unpickles_nor_fetches_nor_runs_anything() -> None:
    for path, tree in _code():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            found = _RUNS_OR_FETCHES & set(names)
            assert not found or (path.name, found) == ("apart.py", {"subprocess"}), f"{path.name} imports {names}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "os.system", "os.popen", "torch.load", "yaml.load"), path.name
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if called.endswith("from_pretrained"):
                    assert "trust_remote_code" not in given, path.name
                    assert given.get("local_files_only") == "True", f"{path.name}: {called}"
                if called == "np.load":
                    assert given.get("allow_pickle", "False") == "False", path.name


def test_the_one_process_that_is_started_runs_our_own_code_on_nothing_but_bytes() -> None:
    """A decoder of phones' pictures: this Python, isolated, a fixed text, a path of ours and a number; no shell."""
    (tree,) = (tree for path, tree in _code() if path.name == "apart.py")
    (call,) = (
        node for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess.")
    )  # fmt: skip
    assert ast.unparse(call.func) == "subprocess.run"
    assert ast.unparse(call.args[0]) == "[sys.executable, '-I', '-c', _START, str(_ROOT), str(max_pixels)]"
    assert "shell" not in {keyword.arg for keyword in call.keywords}


def test_a_checkpoint_with_code_or_pickles_is_not_loaded(tmp_path: Path) -> None:
    from llava_server.engine import Engine
    from servekit.paths import MODEL_STORE

    folder = tmp_path / "model"
    shutil.copytree(MODEL_STORE / MODEL, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoProcessor": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "processor_config.json").read_text("utf-8"))
    processor["auto_map"] = {"AutoProcessor": "evil.Evil"}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    # Loaded or refused: either is fine, as long as the stranger's code did not run.
    with contextlib.suppress(Exception):
        Engine.load(folder, device="cpu")
    assert not marker.exists()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    with pytest.raises(Exception, match=r"safetensors|weights|pytorch_model"):
        Engine.load(folder, device="cpu")
    assert not marker.exists()


@pytest.mark.serve
def test_nothing_listens_at_a_wrong_address(picture: bytes) -> None:
    with Client.http("http://127.0.0.1:9", retry_s=30) as client, pytest.raises(ServerUnreachable):
        client.predict(picture, PROMPT)
