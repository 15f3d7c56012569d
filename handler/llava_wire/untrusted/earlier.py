"""Records of version 1, read as what they are in version 2: one picture, one grid, maps of attention.

Flow: parsed record.json of version 1 -> `as_version_2` -> the same facts under version 2's keys -> the same checks and
classes as every record. Only the shapes of its arrays differ (`cells`): a row and a column where version 2 has a patch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from llava_wire.errors import RecordError
from llava_wire.plain import mismatch

VERSION_1 = 1
GRID = "base"
"""What the only grid of a record of version 1 is called."""
_LATER = ("images", "grids", "annotations")
_PLACES = (("record.json.images[0]", "record.json.image"), ("record.json.grids[0]", "record.json.geometry"))


def as_version_2(plain: dict[str, Any]) -> dict[str, Any]:
    """The facts of a record of version 1 under the keys of version 2; values are copied as they are and not checked.

    Raises:
        RecordError: "invalid", for what must be taken apart and has another form.
    """
    made = {name: value for name, value in plain.items() if name not in _LATER}
    if "image" in made:
        made["images"] = [made.pop("image")]
    prompt = plain.get("prompt")
    if isinstance(prompt, dict):
        made["prompt"] = {
            name: value for name, value in prompt.items() if name not in ("system", "turns", "separators")
        }
    if "geometry" in made:
        made["grids"] = [_grid(made.pop("geometry"), prompt)]
    if isinstance(plain.get("views"), list):
        made["views"] = [_view(view, f"record.json.views[{i}]") for i, view in enumerate(plain["views"])]
    return made


@contextlib.contextmanager
def in_its_own_words(version: object) -> Iterator[None]:
    """Errors about a record of version 1 name the places that its file has."""
    try:
        yield
    except RecordError as error:
        message = str(error)
        if version != VERSION_1:
            raise
        for here, there in _PLACES:
            message = message.replace(here, there)
        raise RecordError(error.reason, message) from error


def _grid(geometry: object, prompt: object) -> Any:
    if not isinstance(geometry, dict):
        raise mismatch("record.json.geometry", geometry, "an object")
    places = prompt if isinstance(prompt, dict) else {}
    run = []
    for name in ("image_start", "image_count"):
        if name not in places:
            raise RecordError(
                "invalid", f"record.json.prompt: got no {name!r}, expected records that have it; the file is damaged"
            )
        run.append(places[name])
    return {**geometry, "image": 0, "name": GRID, "positions": [run]}


def _view(view: object, path: str) -> Any:
    """A view's axes end in row and col; a key that came later says nothing here."""
    if not isinstance(view, dict):
        return view
    made = {name: value for name, value in view.items() if name not in ("method", "quantity")}
    axes = made.get("axes")
    if isinstance(axes, list):
        if axes[-2:] != ["row", "col"]:
            raise mismatch(f"{path}.axes", axes, "axes that end in row, col")
        made["axes"] = [*axes[:-2], "patch"]
    return made
