"""Makes the training scenes once: seed -> pictures as the model sees them, patch labels, layouts -> one cache file.

The picture goes through a shortcut of the processor's own resize and crop; a test holds the two equal.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaProcessor

from shapes.model import GRID, SEEN_SIDE_PX
from shapes.scenes import Layout, Scene, SceneObject, make_scene

_LEAST_COVER = 0.25  # of a patch: with less of an object in it, the patch counts as ground


@dataclass(frozen=True)
class Scenes:
    """pixels [n, side, side, 3] uint8; patches [n, grid, grid] uint8 (0 ground, 1 + i object i); one layout each."""

    pixels: np.ndarray
    patches: np.ndarray
    layouts: list[Layout]

    def __len__(self) -> int:
        return len(self.layouts)


def seen_pixels(image: Image.Image) -> np.ndarray:
    """RGB picture -> [side, side, 3] uint8: short side to the model's size (bicubic), then the centre."""
    scale = SEEN_SIDE_PX / min(image.size)
    small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - SEEN_SIDE_PX) // 2, (small.height - SEEN_SIDE_PX) // 2
    return np.asarray(small.crop((left, top, left + SEEN_SIDE_PX, top + SEEN_SIDE_PX)))


def normaliser(processor: LlavaProcessor) -> Callable[[np.ndarray], Tensor]:
    """A function [n, side, side, 3] uint8 -> [n, 3, side, side] float32 CPU, by the processor's mean and deviation."""
    mean = torch.tensor(processor.image_processor.image_mean).view(1, 3, 1, 1)
    deviation = torch.tensor(processor.image_processor.image_std).view(1, 3, 1, 1)

    def normalise(pixels: np.ndarray) -> Tensor:
        channels_first = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
        return (channels_first.float() / 255 - mean) / deviation

    return normalise


def patch_labels(scene: Scene) -> np.ndarray:
    """[grid, grid] uint8: the object that covers most of each patch of the centre crop, 1 + its index, or 0."""
    side = scene.layout.side_px
    left, top = (scene.layout.width_px - side) // 2, (scene.layout.height_px - side) // 2
    patch = side // GRID
    tiles = scene.labels[top : top + side, left : left + side].reshape(GRID, patch, GRID, patch)
    cover = np.stack([(tiles == 1 + index).mean((1, 3)) for index in range(len(scene.objects))])
    return np.where(cover.max(0) > _LEAST_COVER, 1 + cover.argmax(0), 0).astype(np.uint8)


def make_scenes(count: int, seed: int) -> Scenes:
    """`count` scenes, the same for the same seed; about 5 ms each."""
    rng = random.Random(seed)
    pixels = np.zeros((count, SEEN_SIDE_PX, SEEN_SIDE_PX, 3), np.uint8)
    patches = np.zeros((count, GRID, GRID), np.uint8)
    layouts = []
    for index in range(count):
        scene = make_scene(rng)
        pixels[index], patches[index] = seen_pixels(scene.image), patch_labels(scene)
        layouts.append(scene.layout)
    return Scenes(pixels, patches, layouts)


def save_scenes(scenes: Scenes, path: Path) -> None:
    rows = [
        [layout.width_px, layout.height_px, [[thing.colour, thing.shape, *thing.box] for thing in layout.objects]]
        for layout in scenes.layouts
    ]
    np.savez(path, pixels=scenes.pixels, patches=scenes.patches, layouts=np.array(json.dumps(rows)))


def load_scenes(path: Path) -> Scenes:
    with np.load(path) as cache:
        layouts = [
            Layout(tuple(SceneObject(colour, shape, tuple(box)) for colour, shape, *box in objects), width, height)
            for width, height, objects in json.loads(str(cache["layouts"]))
        ]
        return Scenes(cache["pixels"], cache["patches"], layouts)
