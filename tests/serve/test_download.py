"""Taking weights from a local folder, and the answers when the hub cannot be reached; no network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import download_model
import pytest
from servekit.paths import Trouble

WEIGHTS = b"weights" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a made-up model with one known digest."""
    section = {"source": "someone/some-model", "revision": "0" * 40, "sha256": {"model.safetensors": SHA256}}
    monkeypatch.setattr(download_model, "read_model_yaml", lambda model: {"handler": section})
    return section


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a checkpoint and things that do not belong to it."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "pytorch_model.bin", "notes.md"):
        (folder / name).write_text("{}")
    return folder


def test_copies_what_a_checkpoint_needs(settings: dict[str, Any], source: Path, tmp_path: Path) -> None:
    target = download_model.download("m", source_folder=source, target=tmp_path / "weights" / "m")
    assert sorted(path.name for path in target.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_second_time_copies_nothing(
    settings: dict[str, Any], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m"
    download_model.download("m", source_folder=source, target=target)
    before = (target / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    download_model.download("m", source_folder=source, target=target)
    assert (target / "model.safetensors").stat().st_mtime_ns == before
    assert "kept model.safetensors" in capsys.readouterr().err


def test_goes_on_after_an_interrupted_copy(settings: dict[str, Any], source: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "model.safetensors.partial").write_bytes(WEIGHTS[:50])
    download_model.download("m", source_folder=source, target=target)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert not (target / "model.safetensors.partial").exists()


def test_a_wrong_file_is_named_with_both_digests(settings: dict[str, Any], source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").write_bytes(WEIGHTS + b"!")
    with pytest.raises(Trouble, match=rf"model.safetensors: got sha256 \w+, allowed {SHA256}; delete "):
        download_model.download("m", source_folder=source, target=tmp_path / "m")


def test_a_missing_file_is_named_before_anything_is_copied(
    settings: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    (source / "model.safetensors").unlink()
    with pytest.raises(Trouble, match=r"without model.safetensors"):
        download_model.download("m", source_folder=source, target=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_no_such_folder(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Trouble, match=r"--from: got .*allowed an existing folder"):
        download_model.download("m", source_folder=tmp_path / "nowhere", target=tmp_path / "m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Trouble, match="no model files"):
        download_model.download("m", source_folder=tmp_path / "empty", target=tmp_path / "m")


def test_a_branch_is_no_pinned_revision(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["revision"] = "main"
    with pytest.raises(Trouble, match="revision: got 'main', allowed the 40 hexadecimal digits"):
        download_model.download("m", target=tmp_path / "m")


def test_without_a_network(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub

    def refuse(*args: object, **kwargs: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(Trouble, match=r"ConnectError \(no route\).*it resumes.*FROM=FOLDER"):
        download_model.download("m", target=tmp_path / "m")


def test_the_size_is_shown_and_checked_first(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    files = [("model.safetensors", 10**15), ("config.json", 10), ("pytorch_model.bin", 10**15)]
    siblings = [type("File", (), {"rfilename": name, "size": size}) for name, size in files]
    listing = type("Listing", (), {"siblings": siblings})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: listing)
    with pytest.raises(Trouble, match=r"disk: got .* free, allowed at least 1000000\.00 GB"):
        download_model.download("m", target=tmp_path / "m")
    assert "2 files, 1000000.00 GB" in capsys.readouterr().err


def test_the_hub_is_asked_for_the_pinned_revision_and_needed_files_only(
    settings: dict[str, Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def fetch(repository: str, **kwargs: Any) -> None:
        asked.update(kwargs, repository=repository)
        kwargs["local_dir"].mkdir()
        (kwargs["local_dir"] / "model.safetensors").write_bytes(WEIGHTS)
        (kwargs["local_dir"] / "config.json").write_text("{}")

    listing = type("Listing", (), {"siblings": []})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    download_model.download("m", target=tmp_path / "m")
    assert (asked["repository"], asked["revision"]) == ("someone/some-model", "0" * 40)
    assert "*.bin" not in asked["allow_patterns"]


def test_the_shipped_model_needs_no_download() -> None:
    assert download_model.download("llava-shapes").name == "llava-shapes"
