"""Makes the training scenes once, in as many processes as there are: seed -> files of pixels, patch labels, layouts.

Scene number n depends on seed and n alone, so the pool is the same however many processes make it. Pictures go through
a shortcut of the processor's own resize and crop.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llava_wire.system.replacing import replacing
from teach.world import Scene, World

_LEAST_COVER = 0.25
"""Of a patch: with less of an object in it, the patch counts as ground."""
_CHUNK = 250


@dataclass(frozen=True)
class Pool:
    """pixels [n, side, side, 3] uint8; patches [n, grid, grid] uint8 (0 ground, 1 + i object i); one layout each."""

    pixels: np.ndarray
    patches: np.ndarray
    layouts: Sequence[Any]

    def __len__(self) -> int:
        return len(self.layouts)


def pool(world: World, folder: Path, count: int, seed: int, processes: int) -> Pool:
    """The scenes in a folder; made first where it has none."""
    stem = f"scenes-{seed}-{count}"
    pixels, patches, layouts = (folder / f"{stem}-{part}" for part in ("pixels.npy", "patches.npy", "layouts.pickle"))
    if not layouts.exists():
        side, grid = world.seen_px, world.seen_px // world.patch_px
        for path, shape in ((pixels, (count, side, side, 3)), (patches, (count, grid, grid))):
            np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        firsts = range(0, count, _CHUNK)
        make = partial(_make, world, pixels, patches, seed)
        if processes > 1:
            with ProcessPoolExecutor(processes) as workers:
                every = [layout for chunk in workers.map(make, firsts) for layout in chunk]
        else:
            every = [layout for chunk in map(make, firsts) for layout in chunk]
        with replacing(layouts) as whole:  # last: what is there is whole
            whole.write_bytes(pickle.dumps(every))
    return Pool(np.load(pixels, "r+"), np.load(patches, "r"), pickle.loads(layouts.read_bytes()))


def seen_pixels(image: Image.Image, side: int) -> np.ndarray:
    """RGB picture -> [side, side, 3] uint8: short side to the model's size (bicubic), then the centre."""
    scale = side / min(image.size)
    if scale != 1:
        size = (int(image.width * scale), int(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """[grid, grid] uint8: the object that covers most of each patch of the centre crop, 1 + its index, or 0."""
    side = min(scene.layout.width_px, scene.layout.height_px)
    left, top = (scene.layout.width_px - side) // 2, (scene.layout.height_px - side) // 2
    patch = side // grid
    tiles = scene.labels[top : top + side, left : left + side].reshape(grid, patch, grid, patch)
    cover = np.stack([(tiles == 1 + index).mean((1, 3)) for index in range(int(scene.labels.max()))])
    return np.where(cover.max(0) > _LEAST_COVER, 1 + cover.argmax(0), 0).astype(np.uint8)


def _make(world: World, pixels: Path, patches: Path, seed: int, first: int) -> list[Any]:
    """Scenes of one chunk into the files; gives their layouts."""
    seen, labels = np.load(pixels, "r+"), np.load(patches, "r+")
    layouts = []
    for number in range(first, min(first + _CHUNK, len(seen))):
        scene = world.scene(random.Random(f"{seed} scene {number}"))
        seen[number] = seen_pixels(scene.image, world.seen_px)
        labels[number] = patch_labels(scene, labels.shape[1])
        layouts.append(scene.layout)
    return layouts
