"""Vision towers of one fixed grid: how many tokens one makes of a picture, which are patches, at which size.

Flow: configuration -> the vision tower on the meta device (shapes without memory) -> `TowerGrid`; grid and image
processor -> refused when the processor makes pictures that the tower does not take; configuration -> bytes of a patch,
shape of the text model. Needs no weights.
"""

from __future__ import annotations

import functools
import inspect
import json
from dataclasses import dataclass
from typing import Any

from llava_doors.family import FamilyError, ModelFacts
from llava_doors.parts.decoder import text_facts
from llava_doors.parts.resizing import preprocess_of, processed_size
from llava_wire.geometry import Preprocess

_TRIAL_SIZES = ((64, 48), (45, 80), (57, 57))


@dataclass(frozen=True)
class TowerGrid:
    """The tokens of one picture.

    Args:
        rows, cols: the grid of patches, in the order of the tokens.
        lead: tokens before them that stand for no place on the picture.
        side_px: width and height of the processed picture.
    """

    rows: int
    cols: int
    lead: int
    side_px: int


def patch_grid(config: Any, strategy: str | None = None) -> TowerGrid:
    """The grid that a checkpoint's vision tower makes, seen by running its first layer without weights.

    Args:
        config: with `vision_config` and `vision_feature_layer`.
        strategy: "default" leaves a tower's first token out, "full" keeps it; None takes the configuration's
            `vision_feature_select_strategy`.

    Raises:
        FamilyError: when its tokens are not one grid of patches, with at most a class token before it.
    """
    layers = config.vision_feature_layer
    states = getattr(config.vision_config, "num_hidden_layers", 0) + 1
    # transformers takes a single 0 for none.
    if layers == 0 or not all(-states <= layer < states for layer in ([layers] if isinstance(layers, int) else layers)):
        raise FamilyError(
            f"config.vision_feature_layer: got {layers!r}, expected {-states} to {states - 1}, as the vision tower has "
            f"{states - 1} layers, and no single 0"
        )
    strategy = config.vision_feature_select_strategy if strategy is None else strategy
    return _grid_of(config.vision_config.to_json_string(), strategy)


def patch_bytes(config: Any, dtype: Any) -> int:
    """Bytes that one patch takes on its way through vision tower and projector: the tower keeps all of its layers.

    Args:
        config: with `vision_config`, `vision_feature_layer` and `text_config`.
        dtype: of the weights.
    """
    text, vision, layers = config.text_config, config.vision_config, config.vision_feature_layer
    joined = 1 if isinstance(layers, int) else len(layers)
    values = vision.hidden_size * (vision.num_hidden_layers + 7 + 2 * joined) + vision.intermediate_size * 2
    return int(dtype.itemsize * (values + text.hidden_size * 3))


def facts_of(config: Any, dtype: Any) -> ModelFacts:
    """The shape of a checkpoint's text model.

    Raises:
        FamilyError: it, or the vision tower, has layers that differ.
    """
    try:
        patch_bytes(config, dtype)
        return text_facts(config.text_config, dtype)
    except Exception as error:  # configurations of layers that differ raise many kinds
        kinds = config.text_config.model_type, config.vision_config.model_type
        raise FamilyError(
            f"config: got a {kinds[0]} text model and a {kinds[1]} vision tower whose shape cannot be read "
            f"({str(error)[:160]}), expected layers that are all alike"
        ) from error


@functools.lru_cache(maxsize=8)
def _grid_of(vision_json: str, strategy: str) -> TowerGrid:
    import torch
    from transformers import AutoConfig, AutoModel

    values = json.loads(vision_json)
    vision = AutoConfig.for_model(values.pop("model_type"), **values)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if not isinstance(side, int) or not isinstance(patch, int) or not 0 < patch <= side:
        raise FamilyError(
            f"config.vision_config: got image_size {side!r} and patch_size {patch!r}, expected whole numbers of px; "
            f"this vision tower ({vision.model_type}) has no fixed grid"
        )
    vision.num_hidden_layers = 1  # more layers make no other number of tokens
    try:
        with torch.device("meta"):
            tower = AutoModel.from_config(vision).eval()
            if "image_sizes" in inspect.signature(tower.forward).parameters:
                raise TypeError("its grid follows the image's size")
            tokens = tower(torch.empty(1, 3, side, side)).last_hidden_state.shape[1]
    except Exception as error:
        raise FamilyError(
            f"config.vision_config: got a {vision.model_type} tower that fails on an image of {side} x {side} px "
            f"({str(error)[:120]}), expected one that makes a grid of patches"
        ) from error
    patches = (side // patch) ** 2
    kept = tokens - 1 if strategy == "default" else tokens
    has_class_token = any(name.rpartition(".")[2] in ("class_embedding", "cls_token") for name in _names(tower))
    if kept == patches or (kept == patches + 1 and has_class_token):
        return TowerGrid(side // patch, side // patch, kept - patches, side)
    cure = "set vision_feature_select_strategy to full" if tokens == patches else "this tower's tokens are no such grid"
    raise FamilyError(
        f"config.vision_feature_select_strategy: got {strategy!r}, which keeps {kept} of the {tokens} tokens of a "
        f"{vision.model_type} tower, expected its {patches} patches; {cure}"
    )


def check_processor(grid: TowerGrid, patch_px: int, image_processor: Any) -> Preprocess:
    """Refuses an image processor whose pictures the vision tower does not take, by running it on a few.

    Args:
        grid: the vision tower's.
        patch_px: side of one of its patches.
        image_processor: the checkpoint's.

    Returns:
        its settings that move pixels.

    Raises:
        FamilyError: with both sizes.
    """
    from PIL import Image

    preprocess = preprocess_of(image_processor, patch_px)
    for width, height in _TRIAL_SIZES:
        picture = Image.new("RGB", (width, height), (90, 120, 150))
        made = tuple(tried(image_processor, picture)["pixel_values"].shape)
        if made != (1, 3, grid.side_px, grid.side_px):
            wanted = [1, 3, grid.side_px, grid.side_px]
            raise FamilyError(
                f"image processor: got pixel values of {list(made)} for an image of {width} x {height} px, expected "
                f"{wanted}, which the vision tower takes (config.vision_config.image_size); "
                "preprocessor_config.json belongs to another model, or names another crop_size"
            )
        plan = preprocess.plan(width, height)
        if processed_size(plan) != made[2:] or (plan.rows, plan.cols) != (grid.rows, grid.cols):
            raise FamilyError(
                f"image processor: got images of {made[2:]} px by steps that this project reads as "
                f"{processed_size(plan)} px, expected resize, centre crop and pad to a square"
            )
    return preprocess


def tried(image_processor: Any, picture: Any) -> Any:
    """What an image processor makes of one picture.

    Raises:
        FamilyError: nothing.
    """
    try:
        return image_processor(images=[picture], return_tensors="pt")
    except Exception as error:
        raise FamilyError(
            f"image processor: got {str(error)[:120]!r} for an image of {picture.width} x {picture.height} px, "
            "expected pixel values; correct preprocessor_config.json"
        ) from error


def _names(tower: Any) -> list[str]:
    return [name for name, _ in tower.named_parameters()]
