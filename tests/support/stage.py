"""A report's stage as the screen shows it: its px, and where a picture's px lie among them.

The place is computed from the geometry alone: the picture and the padding around it, as large as the stage allows.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from llava_viewer.look import colormap
from llava_wire.geometry import Geometry

Seen = tuple[np.ndarray, float, float, float]
"""Px [row, col, 3] of the stage, px of it for one of the picture, left, top."""


def on_screen(page: Any, geometry: Geometry) -> Seen:
    """The only stage that can be seen."""
    stage = page.locator(".stage:visible")
    assert stage.count() == 1
    frame = stage.bounding_box()
    shot = np.asarray(PillowImage.open(io.BytesIO(page.screenshot(clip=frame))).convert("RGB")).astype(float)
    rects = geometry.patch_rects()
    x0, y0 = min(0, rects[..., 0].min()), min(0, rects[..., 1].min())
    x1, y1 = max(geometry.width_px, rects[..., 2].max()), max(geometry.height_px, rects[..., 3].max())
    scale = min(frame["width"] / (x1 - x0), frame["height"] / (y1 - y0))
    left = (frame["width"] - scale * (x1 - x0)) / 2 - scale * x0
    return shot, scale, left, (frame["height"] - scale * (y1 - y0)) / 2 - scale * y0


def colour_at(seen: Seen, x: float, y: float) -> np.ndarray:
    """The colour [3] around a place of the picture."""
    shot, scale, left, top = seen
    row, col = round(top + scale * y), round(left + scale * x)
    return np.median(shot[row - 2 : row + 3, col - 2 : col + 3].reshape(-1, 3), axis=0)


def check_map(page: Any, geometry: Geometry, expected: np.ndarray) -> None:
    """The stage in the mode "map" and the palette "cividis" has the colour of every value [row, col] at its patch.

    And the frame of the brightest patch lies on that one.
    """
    seen = on_screen(page, geometry)
    rects = geometry.patch_rects()
    assert rects.shape[:2] == expected.shape
    for at in np.ndindex(*expected.shape):
        x0, y0, x1, y1 = rects[at]
        shown = colour_at(seen, x0 + 0.31 * (x1 - x0), y0 + 0.37 * (y1 - y0))
        wanted = colormap.lookup("cividis", np.array([expected[at] / expected.max()]))[0].astype(float)
        assert np.abs(shown - wanted).max() <= 9, (at, shown, wanted)
    mark = page.locator(".stage:visible .peaks use:visible")
    assert mark.count() == 1
    x, y = (float(mark.get_attribute(name)) for name in "xy")
    peak = rects[np.unravel_index(expected.argmax(), expected.shape)]
    assert max(abs(x - peak[0]), abs(y - peak[1])) < 0.06


def settle(page: Any, name: str) -> None:
    """Waits until a report has this view on this grid, whose page may start anew for it."""
    page.wait_for_selector(f'input[data-name="{name}"]:checked', state="attached")
    if page.locator("html.js").count():
        page.wait_for_function(
            """name => document.readyState === "complete" && document.querySelector("#stage[aria-busy=false]")
                && document.querySelector(".desk").dataset.v === document.querySelector(`input[data-name="${name}"]`).id
                && location.hash.includes("v=") | document.querySelector(`input[data-name="${name}"]`).id === "v0" """,
            arg=name,
        )
