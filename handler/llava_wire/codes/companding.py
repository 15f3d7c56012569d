"""Maps to square-root codes whose sums stay right: over the whole map, and over every block of 4 x 4 patches.

Flow: float32 maps -> one scale per map, peak / 255**2 -> the two codes around each value -> the nearer one -> where a
block or the whole would be off, some codes take the other neighbour -> uint8. value = scale * code**2.

A square root spends its levels where the many small values of an attention map lie, but rounding alone errs the same
way in all of many equal values. Sums are what people take of maps, so they decide between the two neighbours.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

TOP = 255
BLOCK = 4
"""Sums over blocks of so many patches a side are kept, at every place; those that reach over an edge too."""
BLOCK_SHARE, BLOCK_PART = 5e-4, 0.02
"""How far off a block's sum may be: a share of attention, or a part of the sum where that is more."""
SUM_SHARE = 1e-3
"""How far off the sum of a map may be."""
MAX_BITS = 6.5
"""The most bits per patch, as the entropy of a map's codes; above, codes are taken from the next of `_LADDER`."""
_LADDER: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 1),),
    ((0, 1), (64, 2)),
    ((0, 1), (64, 4)),
    ((0, 1), (32, 2), (64, 4)),
)
"""(first code, step from there on): all codes, then fewer among the large ones, where a step is a small part."""
_WHOLE = 1e-3
_CHUNK_VALUES = 1 << 18
_THREADS = 8
"""At most: a worker shares its machine with the others."""
_ROUNDS = 4
_SLACK, _MENDED = 0.6, 0.8
"""Errors under the first part of what is allowed are left alone; those over the second are mended patch by patch."""
_MOST_MENDS = 256
_SMALL = 32
"""Codes below this one have all codes beside them, whatever the ladder's step."""
Floats = npt.NDArray[np.float32]


def compand(maps: Floats, peaks: Floats) -> tuple[npt.NDArray[np.uint8], Floats, float]:
    """Codes and scales of maps.

    Args:
        maps: [map, row, col] float32, finite and >= 0.
        peaks: [map] float32, the largest value of each, on this grid or on another of the same map.

    Returns:
        codes [map, row, col] uint8, 255 at every peak; scales [map] float32, 0 for a map of zeros; the largest error
        of a decoded value.
    """
    codes = np.zeros(maps.shape, np.uint8)
    scales = (peaks / np.float32(TOP * TOP)).astype("<f4")
    # Blocks reach over the edges, so that small maps take several times their own size.
    each = max(1, _CHUNK_VALUES // ((maps.shape[1] + 2 * BLOCK) * (maps.shape[2] + 2 * BLOCK)))

    def encode(start: int) -> float:
        part = slice(start, start + each)
        # Maps come last: patches are visited one after the other, all maps at once.
        values = np.ascontiguousarray(maps[part].transpose(1, 2, 0))
        chosen = _codes(values, peaks[part], scales[part])
        codes[part] = chosen.transpose(2, 0, 1)
        return float(np.abs(scales[part] * (chosen * chosen) - values).max(initial=0.0))

    starts = range(0, len(maps), each)
    threads = min(len(starts), _THREADS, len(os.sched_getaffinity(0)))
    if threads > 1:
        # Chunks know nothing of one another, and NumPy lets other threads run while it computes.
        with ThreadPoolExecutor(threads) as pool:
            worst = max(pool.map(encode, starts), default=0.0)
    else:
        worst = max(map(encode, starts), default=0.0)
    return codes, scales, worst


def _codes(values: Floats, peaks: Floats, scales: Floats) -> Floats:
    """Codes of values [row, col, map], as whole float32."""
    exact = np.sqrt(values / np.where(scales > 0, scales, np.float32(1)))
    peak = values >= peaks
    low, high = _around(exact, peak, _LADDER[0])
    up = _nearer(values, scales, low, high)
    # Maps that were decoded from codes give those again, whatever their entropy is now.
    whole = np.abs(exact - np.rint(exact)).max(axis=(0, 1), initial=0.0) < _WHOLE
    for steps in _LADDER[1:]:
        dense = np.flatnonzero(~whole & (_bits(np.where(up, high, low)) > MAX_BITS))
        if not len(dense):
            break
        low[..., dense], high[..., dense] = _around(exact[..., dense], peak[..., dense], steps)
        up[..., dense] = _nearer(values[..., dense], scales[dense], low[..., dense], high[..., dense])
    code = np.where(up, high, low)
    off = _Errors(values, scales, low, high, code).off()
    if len(off):
        errors = _Errors(values[..., off], scales[off], low[..., off], high[..., off], code[..., off])
        errors.balance()
        code[..., off] = errors.code
    return np.where(scales > 0, code, np.float32(0))


def _around(exact: Floats, peak: npt.NDArray[np.bool_], steps: tuple[tuple[int, int], ...]) -> tuple[Floats, Floats]:
    """The codes below and above each exact one, as whole float32; at a peak both are `TOP`."""
    step = np.ones_like(exact)
    for first, size in steps:
        step[exact >= first] = size
    low = np.floor(exact / step) * step
    high = np.minimum(low + step, np.float32(TOP))
    return np.where(peak, np.float32(TOP), np.minimum(low, high)), np.where(peak, np.float32(TOP), high)


def _nearer(values: Floats, scales: Floats, low: Floats, high: Floats) -> npt.NDArray[np.bool_]:
    """Whether the code above is nearer."""
    return 2 * values > scales * (low * low + high * high)


def _bits(codes: Floats) -> npt.NDArray[np.float64]:
    """Entropy of each map's codes [row, col, map], in bits per patch."""
    count = codes.shape[-1]
    flat = codes.reshape(-1, count).astype(np.int64) + 256 * np.arange(count)
    parts = np.bincount(flat.ravel(), minlength=256 * count).reshape(count, 256) / len(flat)
    return -(parts * np.log2(parts, out=np.zeros_like(parts), where=parts > 0)).sum(axis=1)


class _Errors:
    """What rounding does to the sums of some maps, and the choice that makes it least.

    Args:
        values: [row, col, map], exact; scales: [map].
        low, high: the codes around each value; code: the one that is taken, changed by `balance`.
    """

    def __init__(self, values: Floats, scales: Floats, low: Floats, high: Floats, code: Floats) -> None:
        self.code = code
        self._scales, self._low, self._high = scales, low, high
        self._own = scales * code * code - values
        self._rows, self._cols = values.shape[:2]
        self._blocks = self._sums(self._own)
        self._allowed = np.maximum(np.float32(BLOCK_SHARE), np.float32(BLOCK_PART) * self._sums(values))
        self._weight = 1 / (self._allowed * self._allowed)

    def off(self) -> npt.NDArray[np.intp]:
        """The maps of which a sum is off by more than `_SLACK` of what is allowed."""
        return np.flatnonzero((self._worst() > _SLACK) | (np.abs(self._total()) > _SLACK * SUM_SHARE))

    def balance(self) -> None:
        """Takes the other neighbour where that lowers the squared errors of the blocks, then mends what is left."""
        curve = self._over(self._weight)
        for _ in range(_ROUNDS):
            changed = False
            # Patches a block apart share no block: they are decided at once.
            for row in range(min(BLOCK, self._rows)):
                for col in range(min(BLOCK, self._cols)):
                    changed |= self._decide(row, col, curve)
            if not changed:
                break
        self._mend()

    def _decide(self, row: int, col: int, curve: npt.NDArray[np.floating]) -> bool:
        """Decides every fourth patch of every fourth row, from (row, col) on."""
        at = np.s_[row::BLOCK, col::BLOCK]
        code, low, high = self.code[at], self._low[at], self._high[at]
        other = np.where(code == low, high, low)
        change = self._scales * (other * other - code * code)
        down, across, maps = change.shape
        # The blocks that hold one of these patches lie side by side: [patch row, block, patch col, block, map].
        blocks = np.s_[row : row + BLOCK * down, col : col + BLOCK * across]
        weighted = (self._blocks[blocks] * self._weight[blocks]).reshape(down, BLOCK, across, BLOCK, maps)
        slope = weighted.sum(axis=(1, 3))
        turned = (2 * slope + change * curve[at]) * change < 0
        if not turned.any():
            return False
        change = np.where(turned, change, np.float32(0))
        self.code[at] = np.where(turned, other, code)
        self._own[at] += change
        self._blocks[blocks] += change.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
        return True

    def _mend(self) -> None:
        """Changes one patch at a time of the maps that are still off: the one that lowers the eighth powers most.

        A patch takes its other neighbour; small ones may also leave both by half of what a block may be off.
        """
        for _ in range(_MOST_MENDS):
            bad = np.flatnonzero((self._worst() > _MENDED) | (np.abs(self._total()) > _MENDED * SUM_SHARE))
            if not len(bad):
                return
            code, own, scales = self.code[..., bad], self._own[..., bad], self._scales[bad]
            low, high = self._low[..., bad], self._high[..., bad]
            total, inverse = self._total()[bad] / SUM_SHARE, 1 / self._allowed[..., bad]
            blocks = self._blocks[..., bad] * inverse
            before = self._over(_eighth(blocks)) + _eighth(total)
            best, taken = np.zeros(code.shape), code.copy()
            small = (code < _SMALL) & (high <= _SMALL)
            for other, allowed in (
                (np.where(code == low, high, low), np.ones(code.shape, np.bool_)),
                (code + 1, small),
                (code - 1, small & (code > 0)),
            ):
                change = scales * (other * other - code * code)
                near = np.abs(own + change) <= np.maximum(np.abs(own), np.float32(BLOCK_SHARE / 2))
                may = allowed & (near | (other == low) | (other == high))
                after = _eighth(total + change / SUM_SHARE)
                for i in range(BLOCK):
                    for j in range(BLOCK):
                        at = np.s_[i : i + self._rows, j : j + self._cols]
                        after += _eighth(blocks[at] + change * inverse[at])
                gain = np.where(may, before - after, 0)
                taken = np.where(gain > best, other, taken)
                best = np.maximum(gain, best)
            flat = best.reshape(-1, len(bad))
            place = flat.argmax(axis=0)
            useful = np.flatnonzero(flat[place, np.arange(len(bad))] > 0)
            if not len(useful):
                return
            rows, cols = np.divmod(place[useful], self._cols)
            maps, new = bad[useful], taken[rows, cols, useful]
            change = self._scales[maps] * (new * new - self.code[rows, cols, maps] ** 2)
            self.code[rows, cols, maps] = new
            self._own[rows, cols, maps] += change
            for i in range(BLOCK):
                for j in range(BLOCK):
                    self._blocks[rows + i, cols + j, maps] += change

    def _worst(self) -> Floats:
        """The largest error of a block, as a part of what is allowed, [map]."""
        worst: Floats = (np.abs(self._blocks) / self._allowed).max(axis=(0, 1), initial=0.0)
        return worst

    def _total(self) -> npt.NDArray[np.float64]:
        """The error of each map's sum, [map]."""
        total: npt.NDArray[np.float64] = self._own.sum(axis=(0, 1), dtype=np.float64)
        return total

    def _sums(self, own: Floats) -> Floats:
        """Sums over every block, [row + BLOCK - 1, col + BLOCK - 1, map]; place (i, j) ends at patch (i, j)."""
        edge = BLOCK - 1
        wide = np.pad(own, ((edge, edge), (edge, edge), (0, 0)))
        down = sum((wide[i : i + self._rows + edge] for i in range(1, BLOCK)), wide[: self._rows + edge])
        across: Floats = sum(
            (down[:, j : j + self._cols + edge] for j in range(1, BLOCK)), down[:, : self._cols + edge]
        )
        return across

    def _over(self, blocks: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """For every patch the sum of a quantity over the blocks that hold it, [row, col, map]."""
        down = sum((blocks[i : i + self._rows] for i in range(1, BLOCK)), blocks[: self._rows])
        across: npt.NDArray[np.floating] = sum(
            (down[:, j : j + self._cols] for j in range(1, BLOCK)), down[:, : self._cols]
        )
        return across


def _eighth(value: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The eighth power: its sum is nearly that of the largest alone."""
    square = value * value
    fourth = square * square
    power: npt.NDArray[np.float64] = fourth * fourth
    return power
