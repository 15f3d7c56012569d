"""Draws what things stand before: blurred crops of photographs, soft colours, textures; random numbers -> a picture."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "photographs"
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
_CROP_PX = (24, 110)
"""Side of the piece of a photograph, of 600 px, that fills a scene: the smaller, the more blurred."""


def ground(rng: random.Random, width_px: int, height_px: int) -> Image.Image:
    """An RGB picture of that size; the same random numbers give the same ground at every size."""
    small = rng.choices(_DRAWN, (0.5, 0.3, 0.2))[0](rng)
    wide = small.resize((width_px, height_px), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 4), (height_px, width_px, 1))
    lift = rng.uniform(0, 0.55)  # towards white: strong grounds would hide what stands before them
    pixels = np.asarray(wide).astype(np.float32) * (1 - lift) + 245 * lift + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@lru_cache(maxsize=8)
def photograph(name: str) -> Image.Image:
    """One of the photographs, RGB."""
    with Image.open(FOLDER / f"{name}.jpg") as file:
        return file.convert("RGB")


def _piece_of_a_photograph(rng: random.Random) -> Image.Image:
    picture = photograph(rng.choice(_PHOTOGRAPHS))
    side = rng.randint(*_CROP_PX)
    left, top = rng.randrange(picture.width - side), rng.randrange(picture.height - side)
    piece = picture.crop((left, top, left + side, top + side)).resize((28, 28), Image.Resampling.BOX)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return piece


def _soft_colours(rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32))
    base = noise.uniform(90, 250, 3)
    return _image(base + noise.normal(0, 14, (5, 6, 3)))


def _texture(rng: random.Random) -> Image.Image:
    """Stripes or a weave of two near colours."""
    noise = np.random.default_rng(rng.getrandbits(32))
    base, change = noise.uniform(110, 240, 3), noise.normal(0, 16, 3)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(5, 16)
    across, down = np.meshgrid(np.arange(96), np.arange(96))
    wave = np.sin((across * np.cos(angle) + down * np.sin(angle)) * 2 * np.pi / pitch)
    if rng.random() < 0.5:
        wave = wave * np.sin((down * np.cos(angle) - across * np.sin(angle)) * 2 * np.pi / pitch)
    return _image(base + wave[..., None] * change)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


_DRAWN: tuple[Callable[[random.Random], Image.Image], ...] = (_piece_of_a_photograph, _soft_colours, _texture)
