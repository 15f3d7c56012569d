"""Files that a running server and its tools read again and again: the keys of one's own, and server.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from servekit import named_keys
from servekit.named_keys import NamedKeys, read_keys_file
from servekit.paths import SetupError
from servekit.server import start_server
from servekit.state import ServerState, read_state

ALICE, BOB = "alice-key-0123456789", "bob-key-0123456789-x"


def keys_file(folder: Path, text: str) -> Path:
    """A private file."""
    path = folder / "keys.yaml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"keys:\n  bob: {ALICE}\n  bob: other-{ALICE}", "bob"),
        (f"keys: {{'bob': {ALICE}, bob: other-{ALICE}}}", "bob"),
        (f"keys:\n  <<: {{bob: {ALICE}}}\n  bob: other-{ALICE}", "bob"),
        (f"keys: {{bob: {ALICE}}}\nkeys: {{bob: {ALICE}}}", "keys"),
    ],
)
def test_names_that_stand_twice_are_refused(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(SetupError, match=f"got the name '{name}' twice") as caught:
        read_keys_file(keys_file(tmp_path, text))
    assert ALICE not in str(caught.value)


@pytest.mark.parametrize("harm", ["missing", "open", "damaged", "deep"])
def test_keys_do_not_outlive_a_bad_file_for_long(tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keys_file(tmp_path, f"keys: {{alice: {ALICE}}}")
    now = 1000.0
    monkeypatch.setattr(named_keys.time, "monotonic", lambda: now)
    known = NamedKeys(path)
    assert known.name_of(f"Bearer {ALICE}", "own") == "alice"
    if harm == "missing":
        path.unlink()
    elif harm == "open":
        path.chmod(0o644)
    else:
        path.write_text("keys: [" if harm == "damaged" else "[" * 1000, "utf-8")
    assert known.name_of(f"Bearer {ALICE}", "own") == "alice"
    assert known.trouble
    now += 59
    assert known.name_of(f"Bearer {ALICE}", "own") == "alice"
    now += 1
    assert known.name_of(f"Bearer {ALICE}", "own") is None
    assert known.name_of("Bearer own", "own") == "server"
    assert "open nothing until it is mended" in known.trouble
    keys_file(tmp_path, f"keys: {{alice: {ALICE}}}")
    assert known.name_of(f"Bearer {ALICE}", "own") == "alice"
    assert known.trouble == ""


@pytest.mark.parametrize(
    "change",
    [
        {"http": 5},
        {"http": ""},
        {"grpc": "h"},
        {"grpc": "h:x"},
        {"models": "m"},
        {"models": [1]},
        {"pid": "7"},
        {"pid": True},
        {"pid": -1},
        {"key_file": None},
        {"host": []},
    ],
)
def test_a_state_of_wrong_types_is_none(
    tmp_path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path)
    (tmp_path / "s").mkdir()
    state = ServerState("s", "ready", ("m",), "http://h:1", "http://h:2", "http://h:3", "h:4", "k", "l", "t", 0, 0)
    state.write()
    assert read_state("s") == state
    state.file.write_text(json.dumps({**json.loads(state.file.read_text("utf-8")), **change}), "utf-8")
    assert read_state("s") is None


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a file of keys, private."""

    def write(text: str) -> Path:
        path = tmp_path / "keys.yaml"
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no mapping `keys:`"),
        ("keys: [a]", "no mapping `keys:`"),
        ("keys: {}\nother: 1", "no mapping `keys:` alone"),
        ("keys: {a: short}", r"keys\.a: got a key that is not 16 to 256"),
        ("keys: {a: 12345678901234567890}", r"keys\.a: got a key that is not"),
        ("keys: {a: 'hidden with a blank'}", r"keys\.a: got a key that is not"),
        ("keys: {7: sixteen-or-more-signs}", "got the name '7', expected .*quote numbers"),
        ('keys: {"a b": sixteen-or-more-signs}', "got the name 'a b'"),
        ("keys: {server: sixteen-or-more-signs}", "not 'server'"),
        ("keys: {a: sixteen-or-more-signs, b: sixteen-or-more-signs}", "one key under two names"),
        ("keys: {a: hidden-hidden-hidden", "not YAML, line"),
    ],
)
def test_files_of_keys_that_are_refused(keys: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        read_keys_file(keys(text))
    assert not any(part in str(caught.value) for part in ("sixteen-", "hidden", "123456789"))


def test_a_file_that_others_may_read_is_refused(keys: Callable[[str], Path]) -> None:
    path = keys("keys: {a: sixteen-or-more-signs}")
    assert read_keys_file(path) == {"a": "sixteen-or-more-signs"}
    path.chmod(0o640)
    with pytest.raises(SetupError, match="mode 640, expected 600; run: chmod 600"):
        read_keys_file(path)
    with pytest.raises(SetupError, match=r"none\.yaml \(No such file"):
        start_server(["llava-shapes"], name="never", keys=path.with_name("none.yaml"))


def test_every_key_is_compared_in_constant_time(keys: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = named_keys.hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(named_keys.hmac, "compare_digest", watched)
    known = NamedKeys(keys(f"keys: {{alice: {ALICE}, bob: {BOB}}}"))
    for given, name in (
        (f"Bearer {ALICE}", "alice"),
        (f"Bearer {BOB}", "bob"),
        ("Bearer own", "server"),
        ("Bearer x", None),
    ):
        compared.clear()
        assert known.name_of(given, "own") == name
        assert len(compared) == 3
        assert {len(part) for pair in compared for part in pair} == {32}
    assert known.name_of("Bearer own", None) is None
    assert known.name_of(None, "own") is None
