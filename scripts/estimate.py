"""Prints what a request takes in bytes, weights included, and what this machine has, before anything is loaded.

Flow: the model's YAML + its configuration (on the meta device, no weights needed) + options -> a table on stdout.
Example: scripts/estimate.py llava-1.5-7b --options '{"reduction": "none", "layers": "all", "heads": "all"}'
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from llava_doors.family import Family, Layout, ModelFacts
from llava_server.ask.options import parse_options
from llava_server.ask.plan import Plan, make_plan
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.fit.estimate import Estimate, Extent, advice, check_passes, response_limit, sized
from llava_server.load.checkpoint import check_checkpoint, check_configuration
from llava_server.load.family import as_settings_errors, reason
from llava_server.load.locate import locate
from llava_server.load.memory import device_memory, device_of
from llava_server.load.weights import devices_of, weight_bytes
from llava_server.run.compiling import buffer_bytes
from llava_wire import RequestError

STORE = Path(__file__).resolve().parents[1] / "model_store"
SIZES_PX = ((640, 480),)
"""Of the pictures, where none are named."""


def model_of(store: Path, model: str) -> tuple[ModelSettings, Family, Any]:
    """Settings, family and processor of a model: one with a YAML, or a configuration kept without weights, where the
    image processor is all that there is of a processor.

    Raises:
        SettingsError: when there is none, or it cannot be served, with the words that a start would say.
    """
    document, kept = store / f"{model}.yaml", store / "configs" / model
    if document.is_file():
        located = locate(document)
        settings, folder = located.settings, located.configuration
        if folder == located.folder:
            return settings, *check_checkpoint(folder, settings, located.cure)
        family = check_configuration(folder, settings, located.cure)
        return settings, family, pictures_of(family, folder)
    if not kept.is_dir():
        known = {path.stem for path in store.glob("*.yaml")} | {path.name for path in store.glob("configs/*/")}
        raise SettingsError(
            f"model: got {model!r}, expected one of {sorted(known)}; add model_store/<name>.yaml for it"
        )
    settings = replace(ModelSettings(), name=model)
    family = check_configuration(kept, settings)
    dtype = str(family.config.dtype or "float32").split(".")[-1]
    return replace(settings, dtype=dtype), family, pictures_of(family, kept)


def pictures_of(family: Family, folder: Path) -> Any:
    """What a layout needs of a processor: its image processor.

    Raises:
        SettingsError: the folder holds none.
    """
    try:
        return SimpleNamespace(image_processor=family.read_image_processor(folder), tokenizer=None)
    except Exception as error:
        raise SettingsError(
            f"image processor: got {reason(error)}, expected preprocessor_config.json in {folder}; put it there"
        ) from error


@dataclass(frozen=True)
class Planned:
    """A request resolved against a model: its settings, family and shape, the pictures' layout, the plan."""

    settings: ModelSettings
    family: Family
    facts: ModelFacts
    layout: Layout
    plan: Plan


def planned(store: Path, model: str, options: object, sizes_px: Sequence[tuple[int, int]] = SIZES_PX) -> Planned:
    """A request about pictures of these (width, height)."""
    settings, family, processor = model_of(store, model)
    if len(sizes_px) > 1 and not family.several:
        raise SettingsError(f"sizes: got {len(sizes_px)}, expected one for {model}, which takes one image")
    with as_settings_errors():
        facts = family.facts(getattr(torch, settings.dtype))
        layout = family.layout(processor, sizes_px)
    return Planned(settings, family, facts, layout, make_plan(parse_options(options), facts, settings))


def needs(request: Planned, prompt_tokens: int) -> Estimate:
    """What a request takes, its prompt of so many text tokens."""
    facts, layout, plan = request.facts, request.layout, request.plan
    vision = request.family.picture_bytes(layout, getattr(torch, request.settings.dtype))
    return sized(plan, facts, Extent.of(plan, prompt_tokens + layout.tokens, layout, vision, prompt_tokens))


def passes(request: Planned, prompt_tokens: int) -> tuple[list[str], str]:
    """Lines about the passes of its methods, and why the server would refuse them; empty where it would not."""
    needed = needs(request, prompt_tokens)
    said = [
        f"{method}: up to {count:,} passes over prompt and answer, each about as long as the prefill"
        for method, count in needed.passes.items()
    ]
    try:
        check_passes(needed, request.settings.limits)
    except RequestError as error:
        return said, error.message
    return said, ""


def table(
    store: Path, model: str, options: object, prompt_tokens: int, sizes_px: Sequence[tuple[int, int]] = SIZES_PX
) -> list[tuple[str, int]]:
    """Rows of (what, bytes) for one request.

    Args:
        store: the model_store folder.
        model: name of a YAML in it, or of a folder in its configs/.
        options: the request's options object.
        prompt_tokens: text tokens of the prompt, template included; the pictures' tokens are added.
        sizes_px: (width, height) of each picture.
    """
    request = planned(store, model, options, sizes_px)
    settings, facts, layout, plan = request.settings, request.facts, request.layout, request.plan
    dtype = getattr(torch, settings.dtype)
    weights = weight_bytes(request.family, dtype, settings.quantization)
    needed = needs(request, prompt_tokens)
    buffers = buffer_bytes(facts, layout.patches, settings) if settings.compile else 0
    memory = [device_memory(place) for place in devices_of(device_of(settings))]
    return [
        ("weights", weights),
        ("key-value cache", needed.cache_bytes),
        ("captured queries", needed.capture_bytes),
        ("working memory", needed.scratch_bytes),
        ("maps on the device", needed.maps_bytes),
        *([("methods", needed.looking_bytes)] if needed.looking_bytes else []),
        ("device, beside weights", needed.device_bytes),
        *([("static buffers", buffers)] if settings.compile else []),
        ("limit of a batch", settings.limits.batch_bytes),
        ("response, at most", needed.response_bytes),
        ("limit of a response", response_limit(plan, settings.limits)),
        ("weights and request", weights + buffers + needed.device_bytes),
        (f"available here ({', '.join(m.device for m in memory)})", sum(m.available_bytes for m in memory)),
    ]


def cure(store: Path, model: str, options: object) -> str:
    """What would make a request smaller, as the server's refusal says it."""
    plan = planned(store, model, options).plan
    said = advice(plan)
    return said if plan.options.format == "npz" else f'{said}; a reply in JSON may be 3/4 as large as format "npz"'


def size_of(text: str) -> tuple[int, int]:
    """A size as it is written: 640x480."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected WIDTHxHEIGHT in px, such as 640x480")
    return int(width), int(height)


def main(arguments: list[str] | None = None) -> int:
    """Exit 0: the request fits the limits; 1: it would be refused; 2: bad arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="estimate.py"
    )
    parser.add_argument("model", help="a model of model_store, such as llava-1.5-7b")
    parser.add_argument("--options", default="{}", help="the request's options as JSON")
    parser.add_argument("--prompt-tokens", type=int, default=40, help="text tokens of the prompt (default 40)")
    parser.add_argument(
        "--size",
        action="append",
        type=size_of,
        metavar="WIDTHxHEIGHT",
        help="of an image in px, once per image (default 640x480)",
    )
    given = parser.parse_args(arguments)
    try:
        options = json.loads(given.options)
        rows = table(STORE, given.model, options, given.prompt_tokens, given.size or SIZES_PX)
        asked = planned(STORE, given.model, options, given.size or SIZES_PX)
        told, too_many = passes(asked, given.prompt_tokens)
    except (SettingsError, RequestError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in rows:
        print(f"{name:<28}{value:>18,} B {value / 1e6:>12,.1f} MB")
    values = dict(rows)
    *_, (_, together), (_, here) = rows
    pairs = (("device, beside weights", "limit of a batch"), ("response, at most", "limit of a response"))
    over = [f"{got} is over the {limit}" for got, limit in pairs if values[got] > values[limit]]
    for line in told:
        print(line)
    if over:
        print(f"refused with status 507: {'; '.join(over)}; {cure(STORE, given.model, options)}")
    elif too_many:
        print(f"refused with status 507: {too_many}")
    else:
        print("fits the limits")
    print("its memory is here now" if together <= here else "its memory is not here now")
    return 1 if over or too_many else 0


if __name__ == "__main__":
    sys.exit(main())
