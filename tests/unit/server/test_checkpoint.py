"""Folders that are no checkpoint to serve: each is named for what it is, in the same words by whoever looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_mar
import download_model
import estimate
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_server.load.checkpoint import check_checkpoint, check_files
from servekit import paths
from support.published import write_checkpoint

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "model_store" / "llava-shapes"
ORIGINAL = ROOT / "tests" / "data" / "layouts" / "original_llava_config.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SETTINGS = ModelSettings(name="mine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model's folder, which a test may spoil."""
    copied = tmp_path / "mine"
    shutil.copytree(SHIPPED, copied, ignore=shutil.ignore_patterns("*.md", "*.log", "evaluation.json"))
    return copied


def change(folder: Path, name: str, **values: object) -> None:
    """Other values for keys of a JSON file; None takes a key away."""
    path = folder / name
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rename_weights(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def write_into(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def without(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def original(folder: Path) -> None:
    shutil.copy(ORIGINAL, folder / "config.json")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"}')
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def own_adapter(folder: Path) -> None:
    adapter(folder)
    (folder / "non_lora_trainables.bin").touch()


def original_names(folder: Path) -> None:
    save_file({"model.mm_projector.0.weight": torch.zeros(2, 2)}, folder / "model.safetensors")


def adapter_beside_a_whole_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def only_inner(folder: Path) -> None:
    inner = folder / "checkpoint-1000"
    inner.mkdir()
    (folder / "config.json").rename(inner / "config.json")


def shard_gone(folder: Path) -> None:
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    rename_weights("model-00001-of-00002.safetensors")(folder)


def index_of(content: dict[str, object]) -> Callable[[Path], object]:
    """Weights in one shard with this index."""

    def spoil(folder: Path) -> None:
        rename_weights("model-00001-of-00001.safetensors")(folder)
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return spoil


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def kind(**config: object) -> Callable[[Path], object]:
    return write_into("config.json", json.dumps(config))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "original layout": (original, r"the layout of LLaVA's own code \(mm_vision_tower: 'openai/clip.*Other layouts"),
    "original layout, own type": (kind(model_type="llava_llama", mm_vision_tower="x"), r"the layout of LLaVA's own"),
    "original layout, type alone": (kind(model_type="llava_mistral"), r".* \(model_type: 'llava_mistral' in"),
    "original names of weights": (original_names, r".* \(model.mm_projector.0.weight in model.safetens"),
    "adapter of LLaVA's own code": (own_adapter, r"a LoRA adapter of LLaVA's own code .*merge_lora_weights.py"),
    "adapter": (adapter, r"an adapter \(LoRA, PEFT\) for the base 'llava-hf/llava-1.5-7b-hf'.*merge it"),
    "adapter beside a whole model": (adapter_beside_a_whole_model, r"an adapter .*that it was trained on"),
    "text model": (kind(model_type="llama", vocab_size=32000), r"model_type: got 'llama', a model of text alone"),
    "other vision model": (
        kind(model_type="chameleon", text_config={}, vision_config={}),
        r"config.model_type: got 'chameleon', another model that reads images, expected '.*'llava', ",
    ),
    "vision tower": (kind(model_type="clip_vision_model", image_size=336), r"'clip_vision_model', a vision model"),
    "no type": (kind(hidden_size=1), r"config.model_type: got None, no model that answers questions"),
    "no vision_config": (lambda f: change(f, "config.json", vision_config=None), r"config.vision_config: got none"),
    "no text_config": (lambda f: change(f, "config.json", text_config=None), r"config.text_config: got none"),
    "quantised before": (
        lambda f: change(f, "config.json", quantization_config={"quant_method": "awq"}),
        r"config.quantization_config: got weights that were quantised before \(awq\).*handler.quantization: 8bit",
    ),
    "pickled weights": (rename_weights("pytorch_model.bin"), r"got pytorch_model.bin in .*pickled weights.*convert"),
    "torch file": (rename_weights("model.pt"), r"got model.pt in .*pickled weights"),
    "gguf": (rename_weights("model-q4.gguf"), r"got model-q4.gguf in .*weights for llama.cpp"),
    "another name": (rename_weights("llava.safetensors"), r"got llava.safetensors in .*rename it"),
    "shard without index": (rename_weights("model-00001-of-00002.safetensors"), r"without model.safetensors.index"),
    "unfinished copy": (rename_weights("model.safetensors.partial"), r"got an incomplete download.*CURE"),
    "no weights": (without("model.safetensors"), r"got no weights in .*CURE"),
    "shard gone": (shard_gone, r"got 1 of 2 weight files in .*without model-00002-of-00002.safetensors: an incomplete"),
    "cut off": (cut_off, r"got 3321584 bytes of model.safetensors, expected the 3322584 that its head states.*CURE"),
    "cut off in its head": (write_into("model.safetensors", "\1\1\0\0\0\0\0\0{"), r"no safetensors file \(9 bytes\)"),
    "a page in place of weights": (write_into("model.safetensors", "<!DOCTYPE html>" * 9), r"no safetensors file"),
    "index without metadata": (
        index_of({"weight_map": {"a": "model-00001-of-00001.safetensors"}}),
        r"got model.safetensors.index.json without metadata, .*add \"metadata\": \{\} to it, or CURE",
    ),
    "index of a file elsewhere": (
        index_of({"metadata": {}, "weight_map": {"a": "../mine/model-00001-of-00001.safetensors"}}),
        r"got model.safetensors.index.json that names '../mine/model-.*expected files beside it; move .*CURE",
    ),
    "index of an absolute path": (
        index_of({"metadata": {}, "weight_map": {"a": "/etc/hostname"}}), r"that names '/etc/hostname', expected files",
    ),
    "pointers": (write_into("model.safetensors", POINTER), r"git-lfs pointers in place of model.*git lfs pull"),
    "pointer of the index": (write_into("model.safetensors.index.json", POINTER), r"git-lfs pointers in place"),
    "pointer of the configuration": (write_into("config.json", POINTER), r"git-lfs pointers in place of config.json"),
    "configuration cut off": (write_into("config.json", '{"model_type"'), r"got config.json that is no JSON.*CURE"),
    "list as configuration": (write_into("config.json", "[]"), r"got config.json with a list"),
    "no configuration": (without("config.json"), r"got none in .*no config.json.*CURE"),
    "a folder further in": (only_inner, r"no config.json in .*, but in its checkpoint-1000; .*name that one"),
    "empty": (empty, r"got none in .*CURE"),
    "gone": (shutil.rmtree, r"got no folder .*CURE"),
    "gguf alone": (lambda f: (empty(f), (f / "x.gguf").touch()), r"got x.gguf in .*weights for llama.cpp"),
    "projector alone": (lambda f: (empty(f), (f / "mm_projector.bin").touch()), r"the projector of LLaVA's own code"),
    "no tokenizer": (without("tokenizer.json"), r"got no tokenizer in .*CURE"),
    "no tokenizer settings": (without("tokenizer_config.json"), r"got no tokenizer_config.json in .*special"),
    "no image processor": (without("processor_config.json"), r"got no image processor in .*CURE"),
    "image processor left out": (
        lambda f: change(f, "processor_config.json", image_processor=None), r"got no image processor in .*CURE"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_is_named_for_what_it_is_before_anything_is_imported_or_loaded(folder: Path, name: str) -> None:
    spoil, words = BROKEN[name]
    spoil(folder)
    said = []
    for check in (check_files, check_checkpoint):
        with pytest.raises(SettingsError, match=f"^weights of mine: .*{words.replace('CURE', 'bring it')}") as caught:
            check(folder, SETTINGS, "bring it")
        said.append(str(caught.value))
        # In a worker's log the first of a chain of errors is taken for the cause.
        assert not isinstance(caught.value.__cause__, SettingsError)
    assert said[0] == said[1]


def fewer_words(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config=text | {"vocab_size": 4})


def other_tokenizer(folder: Path) -> None:
    change(folder, "config.json", image_token_index=400, image_token_id=None)


DEEPER: dict[str, tuple[Callable[[Path], object], str]] = {
    "strategy": (
        lambda f: change(f, "config.json", vision_feature_select_strategy="everything"),
        r"config.*(vision_feature_select_strategy|got)",
    ),
    "unknown text model": (
        lambda f: change(f, "config.json", text_config={"model_type": "no-such-model"}), r"config.json: got "
    ),
    "tokenizer of another model": (other_tokenizer, r"(chat template|config.image_token_id): got "),
    "words that the model lacks": (fewer_words, r"tokenizer: got ids up to 406, expected those below the 4 "),
    "broken tokenizer": (write_into("tokenizer.json", "{}"), r"tokenizer and processor: got "),
    "template without an image": (
        write_into("chat_template.jinja", "{{ messages[0]['content'][1]['text'] }}"), r"chat template: got "
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEPER)
def test_what_names_alone_do_not_show_is_found_without_weights(folder: Path, name: str) -> None:
    spoil, words = DEEPER[name]
    spoil(folder)
    check_files(folder, SETTINGS)
    with pytest.raises(SettingsError, match=f"^weights of mine: {words}"):
        check_checkpoint(folder, SETTINGS)


def test_views_that_the_model_does_not_have_are_refused_at_the_start(folder: Path) -> None:
    for section in (
        {"head_sets": {"far": [[9, 0]]}},
        {"default_views": [{"name": "x", "layers": [4], "heads": "all", "reduction": "none"}]},
        {"default_views": [{"name": "x", "heads": "unknown", "reduction": "none"}]},
    ):
        settings = ModelSettings.from_dict({"name": "mine", **section})
        with pytest.raises(SettingsError, match=r"handler.default_views and head_sets: got one that this model"):
            check_checkpoint(folder, settings)


def test_whole_checkpoints_of_both_layouts_pass(folder: Path, tmp_path: Path) -> None:
    family, processor = check_checkpoint(folder, SETTINGS)
    assert (family.config.model_type, processor.image_token) == ("llava", "<image>")
    write_checkpoint(tmp_path / "published")
    assert check_checkpoint(tmp_path / "published", SETTINGS)[0].image_token_id == 32000


def test_links_to_the_files_are_as_good_as_files(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    check_files(linked, SETTINGS)
    shutil.rmtree(folder)
    with pytest.raises(
        SettingsError, match=r"got links to nothing for chat_template.jinja, config.json, .* and 3 more in "
    ):
        check_files(linked, SETTINGS)


@pytest.mark.parametrize(
    "name", ["original layout", "adapter", "pickled weights", "shard gone", "pointers", "text model"]
)
def test_everybody_refuses_in_the_same_words(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name][0](folder)
    store = folder.parent
    (store / "mine.yaml").write_text("handler: {}\n")
    monkeypatch.setattr(paths, "MODEL_STORE", store)
    said = set()
    users: list[Callable[[], Any]] = [
        lambda: Engine.load(store / "mine"),
        lambda: estimate.model_of(store, "mine"),
        lambda: build_mar.build("mine"),
        lambda: download_model.download("mine"),
    ]
    for user in users:
        with pytest.raises((SettingsError, paths.SetupError)) as caught:
            user()
        said.add(str(caught.value))
    assert len(said) == 1
    assert said.pop().startswith("weights of mine: ")


def test_the_documented_conversion_of_pickled_weights_makes_a_checkpoint_to_serve(folder: Path, tmp_path: Path) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    snippet = text.split("<!-- pickled -->\n```python\n")[1].split("```")[0]
    assert "/data/old" in snippet
    assert "/data/new" in snippet
    new = tmp_path / "new"
    exec(snippet.replace("/data/old", str(folder)).replace("/data/new", str(new)), {})
    check_checkpoint(new, SETTINGS)
    again = LlavaForConditionalGeneration.from_pretrained(new)
    for (key, value), (other, wanted) in zip(again.state_dict().items(), model.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(value, wanted)
    assert AutoProcessor.from_pretrained(new, backend="pil").chat_template
