"""Maps that are hard to store in 8 bits, from a seed, and how far decoded ones are off."""

from __future__ import annotations

import numpy as np

GRIDS = ((8, 8), (16, 16), (24, 24), (32, 32), (48, 48), (16, 36), (12, 48), (27, 27), (9, 64), (3, 40))
SHARES = (0.02, 0.3, 0.5, 0.7, 0.95, 1.0)
KINDS = (
    "one dominant", "two levels", "heavy tail", "equal", "zeros", "tiny", "exponential", "noise", "log-normal", "blobs",
    "ten bright", "one bright on a low plain",
)  # fmt: skip


def adversarial_map(kind: str, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """One map [row, col] float32 whose sum is an image share."""
    count, share = rows * cols, float(rng.choice(SHARES))
    values = np.ones(count)
    if kind == "one dominant":
        part = float(rng.choice([0.1, 0.3, 0.5, 0.9]))
        values[:] = (1 - part) / (count - 1)
        values[rng.integers(count)] = part
    elif kind == "two levels":
        values[rng.random(count) < rng.choice([0.02, 0.1, 0.5])] = rng.choice([2, 10, 300])
    elif kind == "heavy tail":
        values = rng.pareto(rng.choice([0.7, 1.2, 2.5]), count)
    elif kind in ("tiny", "noise"):
        values = rng.random(count)
    elif kind == "exponential":
        values = rng.exponential(1, count)
    elif kind == "log-normal":
        values = np.exp(rng.normal(0, rng.choice([1, 2, 3]), count))
    elif kind == "blobs":
        row, col = np.mgrid[:rows, :cols]
        for _ in range(3):
            far = (row - rng.random() * rows) ** 2 + (col - rng.random() * cols) ** 2
            values += (50 * np.exp(-far / rng.choice([2, 8, 30]))).ravel()
    elif kind == "ten bright":
        values = rng.random(count) * 1e-2
        values[rng.choice(count, 10, replace=False)] = 1 - np.arange(10) * 0.07
    elif kind == "one bright on a low plain":
        values = 1.6e-3 * (1 + 0.3 * rng.random(count))
        values[rng.permutation(count)[int(rng.choice([64, 200, 350])) :]] *= 1e-3
        values[rng.integers(count)] = max(0.01, 1 - values.sum())
        share = min(1.0, float(values.sum()))
    if kind == "zeros":
        values[:] = 0
    share = 1e-6 if kind == "tiny" else share
    return (values * (share / max(values.sum(), 1e-300))).reshape(rows, cols).astype(np.float32)


def adversarial_maps(count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Every kind on every grid in turn, as (kind, map)."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        kind = KINDS[number // len(GRIDS) % len(KINDS)]
        made.append((kind, adversarial_map(kind, *GRIDS[number % len(GRIDS)], rng)))
    return made


def block_sums(heat: np.ndarray, side: int = 4) -> np.ndarray:
    """Sums of every side x side block of patches, at every place; of narrower maps those of their full width."""
    down, across = (min(side, size) for size in heat.shape)
    sums = np.pad(heat.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across] + sums[:-down, :-across]


def sum_errors(decoded: np.ndarray, exact: np.ndarray) -> tuple[float, float, float]:
    """How far off a decoded map is: its sum; its peak, as a part of it; its worst block, as a part of what is allowed
    (5e-4 or 2 % of the sum, whichever is more)."""
    whole = abs(float(decoded.sum(dtype=np.float64) - exact.sum(dtype=np.float64)))
    peak = abs(float(decoded.max()) / float(exact.max()) - 1) if exact.max() > 0 else float(decoded.max())
    blocks = block_sums(exact)
    block = np.abs(block_sums(decoded) - blocks) / np.maximum(5e-4, 0.02 * blocks)
    return whole, peak, float(block.max())
