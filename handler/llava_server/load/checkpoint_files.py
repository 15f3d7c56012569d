"""What lies in a folder of weights, from names, JSON and the first bytes of files alone: no weights, no torch.

Flow: folder -> pointers of git-lfs, adapters -> config.json and the kind of model that it states -> weight files, all
of them whole -> tokenizer and processor files -> the configuration. What is no checkpoint that can be served is named
for what it is, with the way to make one of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_server.ask.settings import SettingsError
from llava_server.load.family import allowed_types, model_types, sections

GUIDE = "see docs/operations.md, Other layouts"
_POINTER = b"version https://git-lfs"
_LARGEST_HEADER_BYTES = 100_000_000
"""What the safetensors library itself allows."""
_OWN_KINDS = ("llava_llama", "llava_mistral", "llava_mpt", "llava_qwen")
"""What LLaVA's own code calls its models."""
_OWN_KEY = "model.mm_projector."
"""How the names of a projector's tensors begin there."""
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack")


def read_folder(folder: Path, cure: str) -> dict[str, Any]:
    """Checks the files of a checkpoint by name, form and size.

    Args:
        folder: of config.json, weights, tokenizer and processor files.
        cure: what to do when files are missing.

    Returns:
        the content of config.json.

    Raises:
        SettingsError: for the first thing that is wrong.
    """
    if not folder.is_dir():
        raise SettingsError(f"got no folder {folder}, expected a checkpoint folder; {cure}")
    names = sorted(path.name for path in folder.iterdir())
    pointers = [name for name in names if _is_pointer(folder / name)]
    if pointers:
        raise SettingsError(
            f"got git-lfs pointers in place of {_some(pointers)} in {folder}, expected the files themselves; "
            "run in it: git lfs pull"
        )
    dangling = [name for name in names if not (folder / name).exists()]
    if dangling:
        raise SettingsError(f"got links to nothing for {_some(dangling)} in {folder}, expected files; {cure}")
    config = read_configuration(folder, cure)
    _check_weights(folder, names, config, cure)
    _check_processor_files(folder, names, cure)
    return config


def read_configuration(folder: Path, cure: str) -> dict[str, Any]:
    """The content of config.json, when it describes a model of the kind that is served.

    Raises:
        SettingsError: naming the kind that the folder holds instead.
    """
    adapter = folder / "adapter_config.json"
    if adapter.is_file() or any(folder.glob("adapter_model.*")):
        if (folder / "non_lora_trainables.bin").is_file():
            raise SettingsError(
                f"got a LoRA adapter of LLaVA's own code (non_lora_trainables.bin) in {folder}, expected whole "
                f"weights; merge it there (scripts/merge_lora_weights.py) and convert the result, {GUIDE}"
            )
        base = read_json(adapter, cure).get("base_model_name_or_path") if adapter.is_file() else None
        raise SettingsError(
            f"got an adapter (LoRA, PEFT) for the base {base or 'that it was trained on'!r} in {folder}, expected "
            f"whole weights; merge it into its base and serve the result, {GUIDE}"
        )
    path = folder / "config.json"
    if not path.is_file():
        raise SettingsError(_without_configuration(folder, cure))
    config = read_json(path, cure)
    kind = config.get("model_type")
    own: list[str] = [key for key in ("mm_vision_tower", "mm_projector_type", "mm_hidden_size") if key in config]
    own += ["model_type"] if str(kind).startswith(_OWN_KINDS) and kind not in model_types() else []
    if own and "vision_config" not in config:
        raise _own_layout(f"{own[0]}: {config[own[0]]!r} in config.json", folder)
    if kind not in model_types():
        raise SettingsError(
            f"config.model_type: got {kind!r}, {_described(config)}, expected {allowed_types()}; choose another "
            "checkpoint, or add its family (docs/own-family.md)"
        )
    for part in sections(kind):
        if not isinstance(config.get(part), dict):
            raise SettingsError(
                f"config.{part}: got none in {path}, expected the text and the vision model's configuration, since a "
                f"default would be another model; {GUIDE}"
            )
    if "quantization_config" in config:
        method = dict(config["quantization_config"] or {}).get("quant_method")
        raise SettingsError(
            f"config.quantization_config: got weights that were quantised before ({method}), expected whole "
            "ones, since estimates and records would take them for whole; take what they were made from, and set "
            "handler.quantization: 8bit or 4bit"
        )
    return config


def _own_layout(seen: str, folder: Path) -> SettingsError:
    return SettingsError(
        f"got the layout of LLaVA's own code ({seen}) in {folder}, expected that of llava-hf (text_config and "
        f"vision_config); take the converted one from llava-hf, or convert it, {GUIDE}"
    )


def read_json(path: Path, cure: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        SettingsError: for a file that is none, and says what it is where that can be seen.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        if _is_pointer(path):
            raise SettingsError(
                f"got a git-lfs pointer in place of {path}, expected the file itself; run beside it: git lfs pull"
            ) from error
        raise SettingsError(
            f"got {path.name} that is no JSON ({error}), expected the file as published; {cure}"
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(f"got {path.name} with a {type(content).__name__}, expected a JSON object; {cure}")
    return content


def weight_files(folder: Path, config: Mapping[str, Any], cure: str) -> list[Path]:
    """The files that transformers reads the weights from, there or not; none when there is no weight file at all."""
    stated = config.get("transformers_weights")
    if stated:
        first = folder / str(stated)
    else:
        first = folder / "model.safetensors"
        first = first if first.is_file() else folder / "model.safetensors.index.json"
    if not first.is_file():
        return [first] if stated else []
    if first.suffix != ".json":
        return [first]
    index = read_json(first, cure)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise SettingsError(f"got {first.name} without a weight_map, expected names of weights and their files; {cure}")
    if not isinstance(index.get("metadata"), dict):
        raise SettingsError(
            f"got {first.name} without metadata, expected an object, which transformers reads; add "
            f'"metadata": {{}} to it, or {cure}'
        )
    # By the text and not by where links lead: a download's files may be links into a cache.
    outside = sorted({name for name in shards.values() if name != Path(name).name or name in ("", "..")})
    if outside:
        raise SettingsError(
            f"got {first.name} that names {_some([repr(name) for name in outside])}, expected files beside it; move "
            f"them into {folder} and name them without folders, or {cure}"
        )
    return [folder / name for name in sorted(set(shards.values()))]


def _check_weights(folder: Path, names: list[str], config: Mapping[str, Any], cure: str) -> None:
    files = weight_files(folder, config, cure)
    if not files:
        raise SettingsError(_without_weights(folder, names, cure))
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise SettingsError(
            f"got {len(files) - len(missing)} of {len(files)} weight files in {folder}, without {_some(missing)}: an "
            f"incomplete download; expected all that its index names; {cure}"
        )
    for path in files:
        found, head = path.stat().st_size, _head(path)
        stated = None if head is None else _stated_bytes(*head)
        if head is None or stated is None:
            raise SettingsError(f"got {path.name} that is no safetensors file ({found} bytes), expected one; {cure}")
        if stated != found:
            raise SettingsError(
                f"got {found} bytes of {path.name}, expected the {stated} that its head states: an incomplete or "
                f"damaged download; delete it and {cure}"
            )
        if named := next((name for name in head[1] if name.startswith(_OWN_KEY)), None):
            raise _own_layout(f"{named} in {path.name}", folder)


def _check_processor_files(folder: Path, names: list[str], cure: str) -> None:
    held = set(names)
    tokenizers = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"})
    if not any(files <= held for files in tokenizers):
        raise SettingsError(f"got no tokenizer in {folder}, expected tokenizer.json beside the weights; {cure}")
    if "tokenizer_config.json" not in held:
        raise SettingsError(
            f"got no tokenizer_config.json in {folder}, expected it beside the weights: it says which tokens are "
            f"special; {cure}"
        )
    nested = "processor_config.json" in held and "image_processor" in read_json(folder / "processor_config.json", cure)
    if not nested and "preprocessor_config.json" not in held:
        raise SettingsError(
            f"got no image processor in {folder}, expected preprocessor_config.json (or processor_config.json with "
            f"image_processor) beside the weights; {cure}"
        )


def _without_configuration(folder: Path, cure: str) -> str:
    inner = [
        str(path.parent.relative_to(folder))
        for path in (*folder.glob("*/config.json"), *folder.glob("*/*/config.json"))
    ]
    if inner:
        there = _some(sorted(inner))
        return f"got no config.json in {folder}, but in its {there}; expected a checkpoint folder; name that one"
    names = sorted(path.name for path in folder.iterdir())
    if "mm_projector.bin" in names:
        return (
            f"got the projector of LLaVA's own code alone (mm_projector.bin) in {folder}, expected a whole checkpoint; "
            f"convert it with its text and vision model, {GUIDE}"
        )
    if any(name.endswith(".gguf") for name in names) or "params.json" in names:
        return _without_weights(folder, names, cure)
    return f"got none in {folder} (no config.json), expected a checkpoint folder; {cure}"


def _without_weights(folder: Path, names: list[str], cure: str) -> str:
    """Why a folder without weights that transformers would find has none."""
    shards = [name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    others = [name for name in names if name.endswith(".safetensors")]
    foreign = [name for name in names if name.endswith(_OTHER_WEIGHTS)]
    if shards:
        return f"got {_some(shards)} without model.safetensors.index.json in {folder}, expected both; {cure}"
    if others:
        return (
            f"got {_some(others)} in {folder}, expected model.safetensors, or model.safetensors.index.json and the "
            "files that it names; rename it if it is the whole model"
        )
    if any(name.endswith(".gguf") for name in foreign):
        return (
            f"got {_some(foreign)} in {folder}, weights for llama.cpp, expected *.safetensors; take the "
            "checkpoint that they were made from"
        )
    if foreign:
        return f"got {_some(foreign)} in {folder}, pickled weights, expected *.safetensors; convert them, {GUIDE}"
    if any(name.endswith((".partial", ".incomplete")) for name in names):
        return f"got an incomplete download in {folder}, expected *.safetensors; {cure}"
    return f"got no weights in {folder} beside its config.json, expected *.safetensors; {cure}"


def _described(config: Mapping[str, Any]) -> str:
    """The kind of a model that is not served, from what its configuration holds."""
    vision = any("vision" in key for key in config)
    if vision and any(key in config for key in ("text_config", "vocab_size")):
        return "another model that reads images"
    if vision or "image_size" in config:
        return "a vision model alone"
    return "a model of text alone" if "vocab_size" in config else "no model that answers questions about images"


def _head(path: Path) -> tuple[int, dict[str, Any]] | None:
    """Where the tensors of a safetensors file begin, and its own head; None when it has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(size - 8, _LARGEST_HEADER_BYTES):
            return None
        try:
            head = json.loads(file.read(length))
        except ValueError:
            return None
    return (8 + length, head) if isinstance(head, dict) else None


def _stated_bytes(start: int, head: Mapping[str, Any]) -> int | None:
    """The size of a safetensors file by its own head; None when it states none."""
    try:
        return start + max((end for end in _ends(head)), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _ends(head: Mapping[str, Any]) -> Iterator[int]:
    for name, tensor in head.items():
        if name != "__metadata__":
            yield int(tensor["data_offsets"][1])


def _is_pointer(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
