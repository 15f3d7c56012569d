"""Prints what a request takes in bytes: weights, cache, capture, maps and response, before anything is loaded.

Flow: the model's YAML + its configuration (on the meta device, no weights needed) + options -> a table on stdout.
Example: scripts/estimate.py llava-1.5-7b --options '{"reduction": "none", "layers": "all", "heads": "all"}'
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llava_server.estimate import estimate, response_limit
from llava_server.loading import facts_of
from llava_server.options import parse_options
from llava_server.plan import make_plan
from llava_server.settings import ModelSettings, SettingsError
from llava_server.static import buffer_bytes
from llava_wire import RequestError

STORE = Path(__file__).resolve().parents[1] / "model_store"


def config_folder(store: Path, settings: ModelSettings) -> Path:
    """The folder with a model's config.json: shipped, downloaded, or the configuration kept without weights.

    Raises:
        SettingsError: when there is none.
    """
    for folder in (store / settings.source, store / "weights" / settings.name, store / "configs" / settings.name):
        if (folder / "config.json").is_file():
            return folder
    raise SettingsError(
        f"model: got {settings.name} without a config.json, allowed one in model_store; download it first"
    )


def table(store: Path, model: str, options: object, prompt_tokens: int) -> list[tuple[str, int]]:
    """Rows of (what, bytes) for one request.

    Args:
        store: the model_store folder.
        model: name of a YAML in it.
        options: the request's options object.
        prompt_tokens: text tokens of the prompt, template included; the image's tokens are added.
    """
    document = store / f"{model}.yaml"
    if not document.is_file():
        known = sorted(path.stem for path in store.glob("*.yaml"))
        raise SettingsError(f"model: got {model!r}, allowed {known}")
    settings = ModelSettings.from_yaml(document)
    config = LlavaConfig.from_pretrained(config_folder(store, settings), local_files_only=True)
    dtype = getattr(torch, settings.dtype)
    with torch.device("meta"):
        network = LlavaForConditionalGeneration(config)
    weights = sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
    facts = facts_of(config, dtype)
    plan = make_plan(parse_options(options), facts, settings)
    needed = estimate(plan, facts, prompt_tokens + facts.image_tokens, prompt_tokens)
    return [
        ("weights", weights),
        ("key-value cache", needed.cache_bytes),
        ("captured queries", needed.capture_bytes),
        ("maps on the device", needed.maps_bytes),
        ("device, beside weights", needed.device_bytes),
        *([("static buffers", buffer_bytes(facts, settings))] if settings.compile else []),
        ("limit of a batch", settings.limits.batch_bytes),
        ("response, at most", needed.response_bytes),
        ("limit of a response", response_limit(plan, settings.limits)),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Exit 0: the request fits; 1: it would be refused; 2: bad arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="estimate.py"
    )
    parser.add_argument("model", help="a model of model_store, such as llava-1.5-7b")
    parser.add_argument("--options", default="{}", help="the request's options as JSON")
    parser.add_argument("--prompt-tokens", type=int, default=40, help="text tokens of the prompt (default 40)")
    given = parser.parse_args(arguments)
    try:
        rows = table(STORE, given.model, json.loads(given.options), given.prompt_tokens)
    except (SettingsError, RequestError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in rows:
        print(f"{name:<24}{value:>18,} B {value / 1e6:>12,.1f} MB")
    values = dict(rows)
    fits = values["device, beside weights"] <= values["limit of a batch"]
    fits = fits and values["response, at most"] <= values["limit of a response"]
    print("fits" if fits else "refused with status 507")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
