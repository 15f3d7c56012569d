"""Taking weights from a local folder, and the answers when the hub cannot be reached; no network."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import download_model
import pytest

from servekit import paths
from servekit.paths import MODEL_STORE, SetupError

SHIPPED = MODEL_STORE / "llava-shapes"
WEIGHTS = (SHIPPED / "model.safetensors").read_bytes()
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the weights of a made-up model `m` with one known digest belong."""
    store = tmp_path / "model_store"
    store.mkdir()
    monkeypatch.setattr(paths, "MODEL_STORE", store)
    write_yaml(revision="0" * 40)
    return store / "weights" / "m"


def write_yaml(**changes: object) -> None:
    """Settings of `m`."""
    section = {"source": "someone/some-model", "sha256": {"model.safetensors": SHA256}, **changes}
    (paths.MODEL_STORE / "m.yaml").write_text(json.dumps({"handler": section}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a checkpoint and things that do not belong to it."""
    folder = tmp_path / "source"
    shutil.copytree(SHIPPED, folder)
    for name in ("pytorch_model.bin", "notes.md"):
        (folder / name).write_text("{}")
    return folder


def test_copies_what_a_checkpoint_needs(target: Path, source: Path, tmp_path: Path) -> None:
    assert download_model.download("m", source_folder=source) == target
    left_out = {"pytorch_model.bin", "notes.md", "training.log"}
    assert {path.name for path in target.iterdir()} == {path.name for path in source.iterdir()} - left_out


def test_a_second_time_copies_nothing(
    target: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download_model.download("m", source_folder=source)
    before = (target / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    download_model.download("m", source_folder=source)
    assert (target / "model.safetensors").stat().st_mtime_ns == before
    assert "kept model.safetensors" in capsys.readouterr().err


def test_goes_on_after_an_interrupted_copy(target: Path, source: Path, tmp_path: Path) -> None:
    target.mkdir(parents=True)
    (target / "model.safetensors.partial").write_bytes(WEIGHTS[:50])
    download_model.download("m", source_folder=source)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert not (target / "model.safetensors.partial").exists()


def test_a_wrong_file_is_named_with_both_digests(target: Path, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"!")
    with pytest.raises(SetupError, match=rf"model.safetensors: got sha256 \w+, expected {SHA256}; delete "):
        download_model.download("m", source_folder=source)


def test_a_missing_file_is_named_before_anything_is_copied(target: Path, source: Path, tmp_path: Path) -> None:
    write_yaml(sha256={"tokenizer.model": SHA256})
    with pytest.raises(SetupError, match=r"without tokenizer.model"):
        download_model.download("m", source_folder=source)
    assert not target.exists()


def test_what_cannot_be_served_is_named_before_anything_is_copied(target: Path, source: Path) -> None:
    (source / "model.safetensors").unlink()
    with pytest.raises(SetupError, match=r"weights of m: got pytorch_model.bin in .*, pickled weights"):
        download_model.download("m", source_folder=source)
    assert not target.exists()


def test_a_copy_for_a_model_that_lies_elsewhere_is_refused(target: Path, source: Path) -> None:
    write_yaml(source="m2")
    with pytest.raises(SetupError, match=rf"FROM: got .* at handler.source.*set handler.model_path: {source}"):
        download_model.download("m", source_folder=source)
    write_yaml(model_path=str(source))
    assert download_model.download("m") == source


def test_no_such_folder(target: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"--from: got .*expected an existing folder"):
        download_model.download("m", source_folder=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match=r"got none in .*empty"):
        download_model.download("m", source_folder=tmp_path / "empty")


def test_a_branch_is_no_pinned_revision(target: Path, tmp_path: Path) -> None:
    write_yaml(revision="main")
    with pytest.raises(SetupError, match="revision: got 'main', expected the 40 hexadecimal digits"):
        download_model.download("m")


def test_without_a_network(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub

    def refuse(*args: object, **kwargs: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(SetupError, match=r"ConnectError \(no route\).*it resumes.*FROM=FOLDER"):
        download_model.download("m")


def test_the_size_is_shown_and_checked_first(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    files = [("model.safetensors", 10**15), ("config.json", 10), ("pytorch_model.bin", 10**15)]
    siblings = [type("File", (), {"rfilename": name, "size": size}) for name, size in files]
    listing = type("Listing", (), {"siblings": siblings})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: listing)
    with pytest.raises(SetupError, match=r"disk: got .* free, expected at least 1000000\.00 GB"):
        download_model.download("m")
    assert "2 files, 1000000.00 GB" in capsys.readouterr().err


def test_the_hub_is_asked_for_the_pinned_revision_and_needed_files_only(
    target: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def fetch(repository: str, **kwargs: Any) -> None:
        asked.append(kwargs | {"repository": repository})
        shutil.copytree(source, kwargs["local_dir"], dirs_exist_ok=True)

    listing = type("Listing", (), {"siblings": []})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    download_model.download("m")
    assert {(one["repository"], one["revision"], one["local_dir"]) for one in asked} == {
        ("someone/some-model", "0" * 40, target)
    }
    assert [one["allow_patterns"] for one in asked] == [["*.json"], list(download_model.PATTERNS)]
    assert "*.bin" not in download_model.PATTERNS


def test_a_repository_of_another_kind_is_refused_before_its_weights_are_fetched(
    target: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    config = json.loads((source / "config.json").read_text()) | {"model_type": "chameleon"}

    def fetch(repository: str, **kwargs: Any) -> None:
        assert kwargs["allow_patterns"] == ["*.json"]
        kwargs["local_dir"].mkdir(parents=True)
        (kwargs["local_dir"] / "config.json").write_text(json.dumps(config))

    listing = type("Listing", (), {"siblings": []})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(
        SetupError, match=r"weights of m: config.model_type: got 'chameleon'.*reads images.*expected .*'llava', "
    ):
        download_model.download("m")


def test_the_shipped_model_needs_no_download() -> None:
    assert download_model.download("llava-shapes").name == "llava-shapes"
