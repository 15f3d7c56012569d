"""What the numbers of a view are, for whoever shows them: its quantity -> words, texts and what may be said at all.

Flow: `View` -> `check_shown` (one grid, shares) -> pages and figures, or a refusal that names what was found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llava_wire.record import Record
from llava_wire.view import View


def check_one_grid(record: Record, what: str) -> None:
    """Refuses records of several grids where only one can be drawn.

    Args:
        what: what is to be made, as errors call it: "report".

    Raises:
        ValueError: naming the grids.
    """
    if len(record.grids) > 1:
        names = ", ".join(grid.name for grid in record.grids)
        raise ValueError(
            f"{what}: got a record of {len(record.grids)} grids ({names:.200}), expected one of one grid; "
            "read its maps with record.map(grid=...)"
        )


def shares_of(view: View, what: str) -> npt.NDArray[np.float32]:
    """The shares [..., 4] of a view, which shows shares.

    Raises:
        ValueError: naming the view's quantity.
    """
    if view.shares is None:
        raise ValueError(
            f"{what}: got view {view.name!r:.60} of {view.quantity.name!r:.60}, expected one of shares; name another "
            "view"
        )
    return view.shares
