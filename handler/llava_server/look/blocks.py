"""Maps folded into blocks where they are, on the device, so that a seventh of their bytes is copied.

Flow: maps [..., patch] on the device -> the same numbers in the same order as `llava_wire.codes.blocks.fold`, with
torch -> codes, places and values on the host -> `Stored`. What the codes mean is decided there alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from llava_wire.codes.blocks import BLOCK, BLOCK_ERROR, FINE, TOP, Folded, Kept, Plot, plots_of
from llava_wire.codes.quantize import BLOCKS, Stored, in_blocks, store

_CHUNK_VALUES = 1 << 22
"""Values that are folded at a time: what a chunk holds beside the maps is some ten times that many bytes."""


def stored_in_blocks(maps: torch.Tensor, lead: tuple[int, ...], shapes: Sequence[tuple[int, int]]) -> Stored | None:
    """Maps of shares in blocks; None where a value is not finite.

    Args:
        maps: [..., patch] float32, on any device.
        lead: the axes of the maps as the record has them.
        shapes: rows and columns of the grids, whose patches follow one another.

    Raises:
        ValueError: a value below 0, or a grid that blocks do not hold.
    """
    flat, plots = maps.reshape(-1, maps.shape[-1]), plots_of(shapes)
    each = max(1, _CHUNK_VALUES // flat.shape[1])
    if not len(flat):
        return store(np.zeros((*lead, flat.shape[1]), np.float32), BLOCKS, shapes)
    chunks = [_Chunk(part, plots) for part in flat.split(each)]
    least, most, value_error, block_error = torch.stack([chunk.bounds for chunk in chunks], 1).cpu()
    if not bool(torch.isfinite(torch.stack([least, most])).all()):
        return None
    if float(least.min()) < 0:
        raise ValueError(f"maps: got {float(least.min()):g}, expected shares of 0 or more")
    codes, scales, places, values = (
        torch.cat([getattr(chunk, name) for chunk in chunks]).cpu().numpy()
        for name in ("codes", "scales", "places", "values")
    )
    kept = Kept(places.astype(np.uint16), values)
    found = Folded(codes, scales, kept, float(value_error.max()), float(block_error.max()))
    return in_blocks(found, lead, float(most.max()))


class _Chunk:
    """Some maps in blocks: codes [map, block] uint8, scales [map], places [map, kept] int32, values [map, kept].

    `bounds` has the least and the largest value, and the largest errors of a patch and of a block's sum.
    """

    def __init__(self, maps: torch.Tensor, plots: Sequence[Plot]) -> None:
        part = maps + 0.0  # without negative zeros, whose bits are those of the largest number
        apart = [_apart(part[:, plot.patches], plot) for plot in plots]
        left = [rest for _, _, rest in apart]
        self.scales = torch.cat(left, 1).amax(1) / float(TOP)
        codes = [_steps(rest, self.scales) for rest in left]
        self.codes = torch.cat(codes, 1).to(torch.uint8)
        self.places = torch.cat([places for places, _, _ in apart], 1).to(torch.int32)
        self.values = torch.cat([values for _, values, _ in apart], 1)
        off = [
            _laid(code, self.scales, places, values, plot) - part[:, plot.patches]
            for code, (places, values, _), plot in zip(codes, apart, plots, strict=True)
        ]
        blocks = [_sums(one, plot).abs().amax() for one, plot in zip(off, plots, strict=True)]
        errors = [torch.stack([one.abs().amax() for one in off]).amax(), torch.stack(blocks).amax()]
        # A value that is not a number is the least and the largest of all.
        self.bounds = torch.stack([part.amin(), part.amax(), *errors])


def _apart(part: torch.Tensor, plot: Plot) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places and values of a grid's largest patches, [map, kept], and what is left, [map, block]."""
    patches = part.shape[1]
    turned = torch.arange(patches - 1, -1, -1, device=part.device)
    keys = part.contiguous().view(torch.int32).to(torch.int64) * patches + turned
    places = patches - 1 - keys.topk(plot.kept.stop - plot.kept.start, 1).values % patches
    values = part.gather(1, places)
    return places, values, _sums(part.scatter(1, places, 0.0), plot)


def _sums(values: torch.Tensor, plot: Plot) -> torch.Tensor:
    """The sum of every block, [map, block], added up row by row within it."""
    tall, wide = plot.down * BLOCK - plot.rows, plot.across * BLOCK - plot.cols
    whole = F.pad(values.reshape(-1, plot.rows, plot.cols), (0, wide, 0, tall))
    split = whole.reshape(-1, plot.down, BLOCK, plot.across, BLOCK)
    sums = torch.zeros_like(split[:, :, 0, :, 0])
    for i in range(BLOCK):
        for j in range(BLOCK):
            sums = sums + split[:, :, i, :, j]
    return sums.reshape(len(whole), -1)


def _steps(left: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The codes of what is left of a grid's blocks, [map, block] float32."""
    safe = torch.where(scales > 0, scales, 1.0)[:, None]
    exact = left / safe
    low = exact.floor().clamp_max(float(TOP))
    rest = torch.where(low < TOP, (exact - low) * float(FINE), 0.0).to(torch.int64)
    most = (torch.full_like(safe, BLOCK_ERROR) / safe * float(FINE)).clamp(FINE // 2, 2 * FINE).to(torch.int64)
    wanted = (rest.sum(1, keepdim=True) + FINE // 2) // FINE
    must = (rest > most).sum(1, keepdim=True)
    may = ((rest >= FINE - most) & (rest > 0)).sum(1, keepdim=True)
    count = rest.shape[1]
    keys = rest * count + torch.arange(count - 1, -1, -1, device=left.device)
    order = keys.sort(1, descending=True).values
    up = torch.minimum(torch.maximum(wanted, must), torch.maximum(may, must))
    least = order.gather(1, (up - 1).clamp_min(0))
    return low + ((keys >= least) & (up > 0))


def _laid(
    codes: torch.Tensor, scales: torch.Tensor, places: torch.Tensor, values: torch.Tensor, plot: Plot
) -> torch.Tensor:
    """What readers will see of one grid, [map, patch]."""
    members = torch.from_numpy(plot.members).to(codes.device, torch.float32)[None].repeat(len(codes), 1)
    own = places // plot.cols // BLOCK * plot.across + places % plot.cols // BLOCK
    members.scatter_add_(1, own, torch.full_like(values, -1.0))
    even = torch.minimum(codes * scales[:, None] / members.clamp_min(1.0), values[:, -1:])
    rows = torch.arange(plot.rows, device=codes.device) // BLOCK
    cols = torch.arange(plot.cols, device=codes.device) // BLOCK
    laid = even.reshape(-1, plot.down, plot.across)[:, rows][:, :, cols].reshape(len(codes), -1)
    return laid.scatter(1, places, values)
