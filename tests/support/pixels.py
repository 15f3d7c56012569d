"""Pictures inside pages, read back: data URI -> array."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image as PillowImage


def decoded(uri: str) -> np.ndarray:
    """The pixels of a data URI, [row, col] or [row, col, channel]."""
    return np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
