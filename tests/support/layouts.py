"""Layouts of pictures that no model makes, for tests of prompts and rows."""

from __future__ import annotations

from llava_doors.family import Layout, PatchGrid
from llava_wire.geometry import Geometry


def one_grid(image_token_id: int, patches: int, pictures: int = 1) -> Layout:
    """Pictures of one row of patches each."""
    geometry = Geometry(patches, 1, (), 1, 1, patches)
    grids = tuple(PatchGrid(image, "base", geometry, range(patches)) for image in range(pictures))
    return Layout(((image_token_id,) * patches,) * pictures, grids)
