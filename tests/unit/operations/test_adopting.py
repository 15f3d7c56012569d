"""A model that is named by its folder: the YAML that is written for it, and what is refused before one is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from llava_server.ask.settings import ModelSettings
from llava_server.load.locate import locate
from servekit import paths
from servekit.adopting import adopted
from servekit.paths import SetupError

SHAPES = paths.ROOT / "model_store" / "llava-shapes"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setattr(paths, "MODEL_STORE", folder)
    return folder


def checkpoint(folder: Path) -> Path:
    shutil.copytree(SHAPES, folder)
    return folder


def test_a_folder_gets_a_yaml_once(store: Path, tmp_path: Path) -> None:
    folder, said = checkpoint(tmp_path / "my llava: 7b #2"), list[str]()
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "dtype": "bfloat16"}))
    assert adopted(str(folder), said.append) == "my-llava-7b-2"
    document = store / "my-llava-7b-2.yaml"
    assert document.read_text() in said[0].replace("\n    ", "\n")
    located = locate(document)
    assert (located.folder, located.settings.dtype) == (folder, "bfloat16")
    assert located.settings == ModelSettings(name="my-llava-7b-2", model_path=str(folder), dtype="bfloat16")
    assert "dtype: bfloat16  # as it was published; float32 is exact" in document.read_text()
    served = yaml.safe_load(document.read_text())
    assert served["responseTimeout"] * 1000 > located.settings.limits.deadline_ms
    document.write_text(document.read_text().replace("bfloat16", "float32"))
    assert adopted(str(folder), said.append) == "my-llava-7b-2", "what the user changed stays"
    assert (len(said), locate(document).settings.dtype) == (1, "float32")


def test_names_stay_names(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (store / "llava-1.5-7b.yaml").write_text("handler: {source: llava-hf/llava-1.5-7b-hf}")
    (tmp_path / "llava-1.5-7b").mkdir()
    for name in ("llava-1.5-7b", "none"):
        assert adopted(name, pytest.fail) == name
    assert adopted(str(store / "llava-1.5-7b.yaml"), pytest.fail) == "llava-1.5-7b"
    assert adopted(str(store / "llava-1.5-7b"), pytest.fail) == "llava-1.5-7b"
    assert adopted(str(store / "weights" / "llava-1.5-7b"), pytest.fail) == "llava-1.5-7b"
    checkpoint(tmp_path / "beside")
    assert adopted("beside", lambda text: None) == "beside", "a folder that is there needs no slash"


def test_what_cannot_be_served_is_refused_before_anything_is_written(store: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(SetupError) as error:
            adopted(str(folder), pytest.fail)
        assert not list(store.glob("*"))
        return str(error.value)

    assert "got no folder" in refused(tmp_path / "none")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}))
    assert "got an adapter (LoRA, PEFT) for the base 'lmsys/vicuna-7b-v1.5'" in refused(adapter)
    (adapter / "non_lora_trainables.bin").touch()
    assert "merge it there (scripts/merge_lora_weights.py) and convert the result" in refused(adapter)
    own = checkpoint(tmp_path / "own")
    (own / "config.json").write_text(json.dumps({"model_type": "llava_llama"}))
    assert "the layout of LLaVA's own code (model_type: 'llava_llama' in config.json)" in refused(own)


def test_one_name_is_one_model(store: Path, tmp_path: Path) -> None:
    assert adopted(str(checkpoint(tmp_path / "a" / "mine")), lambda text: None) == "mine"
    with pytest.raises(SetupError, match=r"whose name mine is that of .*mine.yaml with its weights in .*a/mine"):
        adopted(str(checkpoint(tmp_path / "b" / "mine")), pytest.fail)
    with pytest.raises(SetupError, match="expected a folder with a name of letters and digits"):
        adopted(f"{tmp_path}/---", pytest.fail)
