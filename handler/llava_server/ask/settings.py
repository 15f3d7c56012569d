"""What a model's YAML says: where the weights are, how to run them, the limits, the default views.

Flow: model_store/<model>.yaml (its `handler:` section) -> checked dict -> frozen `ModelSettings`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llava_server.ask.checks import DEFAULT_CHECKS, CheckSpec, parse_checks
from llava_server.ask.methods import declared
from llava_server.ask.options import ViewSpec, parse_view
from llava_server.ask.pictures import MAX_IMAGES
from llava_server.ask.request import MAX_PROMPT_CHARS
from llava_wire.errors import RequestError, nearest

DTYPES = ("float32", "float16", "bfloat16")
DEVICES = ("auto", "cpu", "cuda", "map")
QUANTIZATIONS = ("", "8bit", "4bit")

_MOST = {"max_prompt_chars": MAX_PROMPT_CHARS, "max_images": MAX_IMAGES}
"""Limits that a model's settings cannot raise beyond what is looked at at all."""
_SOURCE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?(GiB|MiB|KiB|GB|MB|KB)")


class SettingsError(ValueError):
    """A model's YAML that cannot be used; the message names the key, what was given and what is allowed."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; sizes in bytes, px and ms as the names say.

    Of images the bytes and pixels are those of each, and of all of a request together; families that take one image
    take one whatever `max_images` says.
    """

    max_new_tokens: int = 256
    max_images: int = MAX_IMAGES
    max_image_bytes: int = 10 << 20
    max_image_pixels: int = 40_000_000
    max_prompt_chars: int = 4000
    max_response_bytes: int = 24 << 20
    max_sequences: int = 8
    batch_bytes: int = 1 << 30
    deadline_ms: int = 240_000
    max_passes: int = 8192


@dataclass(frozen=True)
class ModelSettings:
    """One servable model.

    Args:
        name: what requests call it: the name of the YAML file.
        source: a folder beside the YAML, or a hub repository ("owner/name").
        revision: the pinned commit of the hub repository, or the version of a local model.
        dtype: "float32", "float16" or "bfloat16".
        device: "auto" (the worker's GPU, else the CPU), "cpu", "cuda", or "map" (accelerate spreads the layers).
        quantization: "8bit" or "4bit" loads the text model's weights through bitsandbytes; "" keeps them whole.
        max_memory: for device "map", what each place may take: GPU number or "cpu" -> bytes or text such as "20GiB".
        threads: CPU threads of a worker; 0 leaves PyTorch's choice.
        model_path: the folder of the weights when it is neither `source` nor model_store/weights/<name>; absolute,
            or relative to the YAML's folder.
        log_prompts: write each request's prompt into the worker's log; pictures never are.
        compile: decode on a static cache with a compiled step; compiled at load for each of `compile_batches` (batch
            sizes) times `compile_text_tokens` (room for prompt text and answer). Other requests run as without it.
        head_sets: name -> ((layer, head), ...), 0-based.
        default_views: the views of a request that names none.
        sha256: file name -> digest of the published files.
        self_test: compare the engine with the model's own eager attention at load, and refuse it when they differ.
        check: what is tested about each answer unless a request says otherwise.
    """

    name: str = "llava"
    source: str = ""
    revision: str = ""
    dtype: str = "float32"
    device: str = "auto"
    quantization: str = ""
    max_memory: Mapping[int | str, int | str] = field(default_factory=dict)
    threads: int = 0
    embed_weights: bool = False
    model_path: str = ""
    log_prompts: bool = False
    compile: bool = False
    compile_batches: tuple[int, ...] = (1, 4)
    compile_text_tokens: tuple[int, ...] = (128, 512)
    limits: Limits = field(default_factory=Limits)
    head_sets: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    default_views: tuple[ViewSpec, ...] = (ViewSpec("mean", "all", "all"),)
    sha256: Mapping[str, str] = field(default_factory=dict)
    self_test: bool = True
    check: tuple[CheckSpec, ...] = DEFAULT_CHECKS

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> ModelSettings:
        """Reads the `handler:` section.

        Raises:
            SettingsError: naming the first key that does not fit.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in section.items():
            if key not in known:
                raise SettingsError(f"handler.{key}: got an unknown key, expected {sorted(known)}{nearest(key, known)}")
            values[key] = value
        for key, kind in (("name", str), ("source", str), ("revision", str), ("model_path", str), ("threads", int)):
            if key in values and (not isinstance(values[key], kind) or isinstance(values[key], bool)):
                raise SettingsError(
                    f"handler.{key}: got {values[key]!r}, expected a {kind.__name__}; quote it in the YAML"
                )
        if values.get("source") and not _SOURCE.fullmatch(values["source"]):
            raise SettingsError(
                f"handler.source: got {values['source']!r}, expected the name of a folder beside the YAML, or a hub "
                "repository (owner/name); for another folder set handler.model_path"
            )
        for key in ("limits", "head_sets", "sha256"):
            if key in values and not isinstance(values[key], dict):
                raise SettingsError(f"handler.{key}: got {values[key]!r}, expected a mapping; fill it or leave it out")
        for key, allowed in (
            ("dtype", DTYPES),
            ("device", DEVICES),
            ("quantization", QUANTIZATIONS),
            ("embed_weights", (True, False)),
            ("compile", (True, False)),
            ("log_prompts", (True, False)),
            ("self_test", (True, False)),
        ):
            if key in values and values[key] not in allowed:
                raise SettingsError(f"handler.{key}: got {values[key]!r}, expected {list(allowed)}")
        for key in ("compile_batches", "compile_text_tokens"):
            if key in values:
                values[key] = _sizes(values[key], f"handler.{key}")
        values["max_memory"] = _max_memory(values.get("max_memory", {}), values.get("device"))
        if values.get("compile") and values.get("quantization"):
            raise SettingsError("handler.compile: got true with quantized weights, expected with whole ones; drop one")
        values["limits"] = _limits(values.get("limits", {}))
        values["head_sets"] = _head_sets(values.get("head_sets", {}))
        if "default_views" in values:
            values["default_views"] = _default_views(values["default_views"])
        if "check" in values:
            try:
                values["check"] = parse_checks(values["check"], "handler.check")
            except RequestError as error:
                raise SettingsError(str(error)) from error
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: Path) -> ModelSettings:
        """Reads model_store/<model>.yaml.

        Raises:
            SettingsError: naming the file, when it has no usable `handler:` section.
        """
        section = read_document(path)["handler"]
        try:
            return cls.from_dict({"name": path.stem, **section})
        except SettingsError as error:
            raise SettingsError(f"{path.name}: {error}") from error


def read_document(path: Path) -> dict[str, Any]:
    """A model's YAML: TorchServe's keys and our `handler` section, which is there.

    Raises:
        SettingsError: for a file that is no YAML, or has no `handler:` section.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"{path.name}: got {reason}, expected a readable YAML; mend it") from error
    if not isinstance(document, dict) or not isinstance(document.get("handler"), dict):
        raise SettingsError(f"{path.name}: got no `handler:` section, expected a model's YAML; see model_store/*.yaml")
    return document


def _sizes(value: Any, key: str) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    if not whole or not 1 <= len(value) <= 16:
        raise SettingsError(f"{key}: got {value!r}, expected a list of 1 to 16 whole numbers of 1 or more")
    return tuple(sorted(set(value)))


def _max_memory(section: Any, device: str | None) -> dict[int | str, int | str]:
    if section and device != "map":
        raise SettingsError(f"handler.max_memory: got one for device {device!r}, expected with device: map alone")
    allowed = "GPU numbers or cpu, each with a number of bytes or text such as 20GiB"
    if not isinstance(section, dict):
        raise SettingsError(f"handler.max_memory: got {section!r}, expected {allowed}")
    for place, size in section.items():
        known = place == "cpu" or (isinstance(place, int) and not isinstance(place, bool) and place >= 0)
        number = isinstance(size, int) and not isinstance(size, bool) and size > 0
        if not known or not (number or (isinstance(size, str) and _SIZE.fullmatch(size))):
            raise SettingsError(f"handler.max_memory.{place}: got {size!r}, expected {allowed}")
    return dict(section)


def _default_views(listed: list[Any]) -> tuple[ViewSpec, ...]:
    try:
        views = [parse_view(view, f"handler.default_views[{i}]") for i, view in enumerate(listed)]
    except RequestError as error:
        raise SettingsError(str(error)) from error
    if not views or len({view.name for view in views}) != len(views):
        raise SettingsError("handler.default_views: got none or two of one name, expected views named once each")
    if all(declared(view.method).is_of_text for view in views):
        names = [view.name for view in views]
        raise SettingsError(
            f"handler.default_views: got {names}, all of text, expected one of patches among them; add one with "
            "another method"
        )
    return tuple(views)


def _limits(section: Mapping[str, Any]) -> Limits:
    known = [f.name for f in dataclasses.fields(Limits)]
    for key, value in section.items():
        if key not in known:
            raise SettingsError(f"handler.limits.{key}: got an unknown key, expected {known}{nearest(key, known)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingsError(f"handler.limits.{key}: got {value!r}, expected a whole number of 1 or more")
        if value > (most := _MOST.get(key, value)):
            raise SettingsError(f"handler.limits.{key}: got {value}, expected 1 to {most}")
    return Limits(**section)


def _head_sets(section: Mapping[str, Any]) -> dict[str, tuple[tuple[int, int], ...]]:
    sets = {}
    for name, pairs in section.items():
        ok = (
            isinstance(pairs, list)
            and pairs
            and all(
                isinstance(p, list) and len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p) for p in pairs
            )
        )
        if not ok or name == "all":
            raise SettingsError(f"handler.head_sets.{name}: got {pairs!r}, expected a list of [layer, head] pairs")
        sets[str(name)] = tuple((int(layer), int(head)) for layer, head in pairs)
    return sets
