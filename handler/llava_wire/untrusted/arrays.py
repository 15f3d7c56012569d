"""A stranger's arrays: type, shape and numbers of an .npy member, each checked before the next costs anything.

Flow: member -> its header against what record.json says -> data -> array -> `check_maps`, `check_kept`, `check_shares`.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence

import numpy as np

from llava_wire.codes.blocks import Kept, Plot
from llava_wire.codes.quantize import largest_scale
from llava_wire.errors import RecordError, beginning
from llava_wire.quantity import Quantity
from llava_wire.schema import SHARE_NAMES
from llava_wire.untrusted.zipped import Members, member

TOLERANCE = 1e-3
"""How far rounding may carry a share, a probability or a log probability over its bounds."""
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LARGEST = float(np.finfo(np.float32).max)


def read_array(archive: zipfile.ZipFile, members: Members, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One .npy member, its type and shape checked against the header before the data is touched.

    Raises:
        RecordError: "invalid" or "truncated".
    """
    if name not in members:
        raise RecordError("invalid", f"{name}: got no such member, expected records that have it; the file is damaged")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if members[name].file_size > expected + 4096:
        raise RecordError(
            "invalid", f"{name}: got {members[name].file_size} bytes, expected {expected} for shape {shape}"
        )
    data = member(archive, members[name])
    try:
        stream = io.BytesIO(data)
        read_header = _NPY_HEADERS[np.lib.format.read_magic(stream)]
        found_shape, fortran_order, found_dtype = read_header(stream)
    except Exception as error:  # a damaged header fails in the many ways of a Python literal
        raise RecordError(
            "invalid", f"{name}: got no readable array ({beginning(str(error))}), expected an .npy file"
        ) from error
    if found_dtype != np.dtype(dtype) or found_shape != shape or fortran_order:
        found = f"{beginning(str(found_dtype))} {beginning(found_shape)}{' in Fortran order' if fortran_order else ''}"
        raise RecordError("invalid", f"{name}: got {found}, expected {dtype} {shape} in C order")
    if len(data) - stream.tell() != expected:
        raise RecordError("invalid", f"{name}: got {len(data) - stream.tell()} bytes of data, expected {expected}")
    return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape)


def check_maps(name: str, stored: np.ndarray, scales: np.ndarray, encoding: str, quantity: Quantity) -> None:
    """Refuses numbers that the quantity cannot have: shares above 1, values below 0 of what is not signed, infinities.

    Args:
        name: the folder of the view in the file, "views/0".

    Raises:
        RecordError: "invalid".
    """
    if stored.dtype.kind == "u":
        check_range(f"{name}/scales.npy", scales, 0, largest_scale(encoding, quantity, TOLERANCE))
        return
    check_range(f"{name}/scales.npy", scales, 1, 1)
    check_values(f"{name}/maps.npy", stored, quantity)


def check_values(name: str, values: np.ndarray, quantity: Quantity) -> None:
    """Refuses plain numbers that the quantity cannot have; `name` is that of the member.

    Raises:
        RecordError: "invalid".
    """
    most = 1 + TOLERANCE if quantity.is_share else LARGEST
    check_range(name, values, -most if quantity.signed else 0, most)


def check_kept(name: str, codes: np.ndarray, kept: Kept, plots: Sequence[Plot]) -> None:
    """Refuses patches stored singly that are no shares, not in order, no patches of their grid, or there twice.

    Args:
        name: as in `check_maps`.
        codes: [..., block] uint8.
        kept: [..., kept].
        plots: of the grids.

    Raises:
        RecordError: "invalid".
    """
    check_range(f"{name}/largest.npy", kept.values, 0, 1 + TOLERANCE)
    for plot in plots:
        places, values = kept.places[..., plot.kept], kept.values[..., plot.kept]
        if (values[..., 1:] > values[..., :-1]).any():
            raise RecordError(
                "invalid",
                f"{name}/largest.npy: got a patch above the one before it, expected the "
                "largest first; the file is damaged",
            )
        check_range(f"{name}/places.npy", places, 0, plot.rows * plot.cols - 1)
        ordered = np.sort(places, axis=-1)
        if (ordered[..., 1:] == ordered[..., :-1]).any():
            raise RecordError(
                "invalid", f"{name}/places.npy: got a patch twice, expected each once; the file is damaged"
            )
        left = plot.others(places.reshape(-1, places.shape[-1]))
        if ((left == 0) & (codes[..., plot.blocks].reshape(left.shape) > 0)).any():
            raise RecordError(
                "invalid",
                f"{name}/maps.npy: got more than 0 left of a block whose patches are all "
                "stored singly; the file is damaged",
            )


def check_shares(name: str, shares: np.ndarray) -> None:
    """Refuses parts of a row that are no shares, or do not sum to 1; `name` as in `check_maps`.

    Raises:
        RecordError: "invalid".
    """
    check_range(f"{name}/shares.npy", shares, -TOLERANCE, 1 + TOLERANCE)
    check_range(f"{name}/shares.npy, sum of {', '.join(SHARE_NAMES)}", shares.sum(axis=-1), 0.99, 1.01)


def check_separators(name: str, separators: np.ndarray, shares: np.ndarray) -> None:
    """Refuses shares of separators that are none, or more than the prompt's, which they are a part of.

    Raises:
        RecordError: "invalid".
    """
    check_range(name, separators, -TOLERANCE, 1 + TOLERANCE)
    check_range(
        f"{name}, what the prompt's text has", shares[..., SHARE_NAMES.index("prompt")] - separators, -TOLERANCE, 2
    )


def check_range(name: str, values: np.ndarray, least: float, most: float) -> None:
    """Refuses numbers out of range, NaN among them; the tolerance is for half precision and rounding."""
    # Bounds may be beyond the values' own type, so they are compared as Python's numbers.
    if values.size == 0 or (float(values.min()) >= least and float(values.max()) <= most):
        return
    exact = values.astype(np.float64)
    wrong = exact[~((exact >= least) & (exact <= most))]
    allowed = f"{least:g} to {most:g}" if least < most else f"{most:g}"
    raise RecordError("invalid", f"{name}: got {float(wrong.flat[0]):g}, expected {allowed}; the file is damaged")
