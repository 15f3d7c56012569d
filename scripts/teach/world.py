"""What a world of generated scenes must say, so that a small LLaVA can be taught it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

Axis = Literal["across", "down"]
AXES: tuple[Axis, ...] = ("across", "down")
"""How a picture can be mirrored: left to right, and top to bottom."""


class Layout(Protocol):
    """What is where in a picture, with no pixels."""

    @property
    def width_px(self) -> int: ...
    @property
    def height_px(self) -> int: ...


class Scene(Protocol):
    """A picture (RGB), its layout, and labels [height, width] uint8: 0 for ground, 1 + i for a pixel of object i."""

    @property
    def image(self) -> Image.Image: ...
    @property
    def layout(self) -> Any: ...
    @property
    def labels(self) -> np.ndarray: ...


class Turn(Protocol):
    """A question, and the only right answer."""

    @property
    def text(self) -> str: ...
    @property
    def answer(self) -> str: ...


class World(Protocol):
    """Scenes and questions.

    Args:
        name: the model's.
        words: that must be one token each, inside a sentence.
        names: those of them that name what is seen: reported apart.
        looked_up: words that need several things to be found first; a stage may weigh them more.
        facets: what a patch can be, a name and its number of classes each; class 0 is the ground.
        mirrors: the axes along which a picture may be mirrored, and what gives the layout of the mirrored picture.
        seen_px: side of the square that the model sees.
        patch_px: side of a patch.
        widths: of the vision tower and of the text model.
        layers: of both.
        heads: of both.
        vocabulary: the tokenizer's size.
    """

    @property
    def name(self) -> str: ...
    @property
    def words(self) -> Sequence[str]: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def looked_up(self) -> Sequence[str]: ...
    @property
    def facets(self) -> Sequence[tuple[str, int]]: ...
    @property
    def mirrors(self) -> Mapping[Axis, Callable[[Any], Any]]: ...
    @property
    def seen_px(self) -> int: ...
    @property
    def patch_px(self) -> int: ...
    @property
    def widths(self) -> tuple[int, int]: ...
    @property
    def layers(self) -> tuple[int, int]: ...
    @property
    def heads(self) -> tuple[int, int]: ...
    @property
    def vocabulary(self) -> int: ...

    def scene(self, rng: random.Random) -> Scene:
        """One scene for training."""

    def classes(self, layout: Any) -> np.ndarray:
        """[1 + objects, facets] int64: the classes of the ground and of every object."""

    def centres(self, layout: Any) -> np.ndarray:
        """[objects, 2] float32: their centres in the central square, 0..1 from the top left."""

    def ask(self, rng: random.Random, layout: Any, count: int) -> Sequence[Turn]:
        """Some turns about a layout."""

    def corpus(self, rng: random.Random) -> Iterable[Turn]:
        """Turns about layouts with no picture behind them, for the tokenizer."""
