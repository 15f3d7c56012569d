"""The archive: what is in it, when it is built, and what happens when its code cannot be imported."""

from __future__ import annotations

import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import build_mar
import pytest
import yaml

from servekit import paths
from servekit.models import read_model_yaml
from servekit.paths import HANDLER_ROOT, SetupError

pytestmark = pytest.mark.serve
SHADOWED = {"types", "utils", "codec", "token", "json", "logging", "select", "signal"}


def test_root_holds_one_entry_and_uniquely_named_packages(built_archive: Path) -> None:
    with zipfile.ZipFile(built_archive) as archive:
        names = archive.namelist()
        settings = yaml.safe_load(archive.read("model-config.yaml"))
    roots = {name.split("/")[0] for name in names}
    expected = {
        "MAR-INF",
        "build.json",
        "llava_doors",
        "llava_handler.py",
        "llava_server",
        "llava_wire",
        "model-config.yaml",
    }
    assert roots == expected | {"weights"}
    assert not {root.removesuffix(".py") for root in roots} & SHADOWED
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".md", ".log"))]
    assert "weights/model.safetensors" in names
    original = read_model_yaml("llava-shapes")
    original["handler"]["model_path"] = "weights"
    assert settings == original


def test_unchanged_inputs_build_nothing(built_archive: Path) -> None:
    before = built_archive.stat().st_mtime_ns
    assert build_mar.build("llava-shapes") == (built_archive, False)
    assert built_archive.stat().st_mtime_ns == before


def test_settings_that_a_worker_would_refuse_are_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MODEL_STORE", tmp_path)
    (tmp_path / "mine.yaml").write_text("handler: {threds: 1}\n")
    with pytest.raises(SetupError, match=r"mine.yaml: handler.threds: got an unknown key.*did you mean 'threads'"):
        build_mar.build("mine")


def _elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """The handler's sources as a copy that a test may change, and an own place for the archive."""
    root = folder / "handler"
    shutil.copytree(HANDLER_ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(build_mar, "HANDLER_ROOT", root)
    monkeypatch.setattr(build_mar, "archive", lambda model: folder / f"{model}.mar")
    monkeypatch.setattr(build_mar, "import_test", lambda built: None)
    return root


def test_a_changed_line_builds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _elsewhere(monkeypatch, tmp_path)
    assert build_mar.build("llava-shapes")[1]
    assert not build_mar.build("llava-shapes")[1]
    with (root / "llava_wire" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# one line more\n")
    assert build_mar.build("llava-shapes")[1]


def test_of_two_builds_at_once_one_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _elsewhere(monkeypatch, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(build_mar.build, ["llava-shapes"] * 2))
    target = tmp_path / "llava-shapes.mar"
    assert sorted(both) == [(target, False), (target, True)]
    assert list(tmp_path.glob("*.mar")) == [target]


def test_code_that_cannot_be_imported_keeps_the_old_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build_mar.import_test
    root = _elsewhere(monkeypatch, tmp_path)
    target = build_mar.build("llava-shapes")[0]
    kept = target.read_bytes()
    monkeypatch.setattr(build_mar, "import_test", real)
    with (root / "llava_handler.py").open("a", encoding="utf-8") as file:
        file.write("\nimport a_package_that_is_not_there\n")
    with pytest.raises(SetupError, match="No module named 'a_package_that_is_not_there'"):
        build_mar.build("llava-shapes")
    assert target.read_bytes() == kept


def test_two_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build_mar.import_test
    root = _elsewhere(monkeypatch, tmp_path)
    monkeypatch.setattr(build_mar, "import_test", real)
    with (root / "llava_handler.py").open("a", encoding="utf-8") as file:
        file.write("\n\nclass Second:\n    pass\n")
    with pytest.raises(SetupError, match="exactly one class"):
        build_mar.build("llava-shapes")


def test_big_weights_stay_outside_and_are_checked_again_when_their_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _elsewhere(monkeypatch, tmp_path)
    monkeypatch.setattr(paths, "MODEL_STORE", tmp_path)
    (tmp_path / "my-llava-1.5.yaml").write_text("handler: {source: someone/my-llava}\n")
    with pytest.raises(SetupError, match=r"weights of my-llava-1.5: got no folder .*run: hf download someone/my-llava"):
        build_mar.build("my-llava-1.5")
    weights = tmp_path / "weights" / "my-llava-1.5"
    shutil.copytree(HANDLER_ROOT.parent / "model_store" / "llava-shapes", weights)
    with zipfile.ZipFile(build_mar.build("my-llava-1.5")[0]) as archive:
        assert not [name for name in archive.namelist() if name.startswith("weights/")]
        section = yaml.safe_load(archive.read("model-config.yaml"))["handler"]
    assert (section["name"], section["model_path"]) == ("my-llava-1.5", str(weights))
    assert not build_mar.build("my-llava-1.5")[1]
    processor = json.loads((weights / "processor_config.json").read_text())
    processor["image_processor"]["crop_size"] = {"height": 48, "width": 48}
    (weights / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(SetupError, match=r"weights of my-llava-1.5: image processor: got pixel values of .*48, 48"):
        build_mar.build("my-llava-1.5")
