"""Maps of single layers and heads, packed for the page's script: arrays -> text blocks that the page loads when needed.

Flow: grey maps (square-root codes) [row of the table, map, row, col] -> one zlib stream per row of the table, maps one
after the other, base64; their maxima and shares -> one float32 block for the view. `static/report/data.js` reads them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llava_viewer.look.heatmap import to_grey
from llava_viewer.look.view_model import Atlas, Block


def build_atlas(
    key: str, maps: npt.NDArray[np.float32], shares: npt.NDArray[np.float32], row_keys: Sequence[str]
) -> Atlas:
    """The atlas of one view.

    Args:
        key: the view's key, "v1".
        maps: [row of the table, map, row, col] float32, absolute attention.
        shares: [row of the table, map, 4] float32.
        row_keys: the radio button of each row of the table, "" for a map of the whole answer.
    """
    grey, peaks = to_grey(maps)
    numbers = np.concatenate([peaks[..., None], shares], axis=-1).astype("<f4")
    blocks = [
        Block(f"a-{key}-{row_key or 'all'}", packed(grey[number].tobytes())) for number, row_key in enumerate(row_keys)
    ]
    return Atlas((Block(f"n-{key}", packed(numbers.tobytes())), *blocks))


def packed(data: bytes) -> str:
    """Bytes as the page's script unpacks them: a zlib stream in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
