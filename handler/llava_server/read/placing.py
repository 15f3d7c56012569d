"""Where pictures lie in a prompt: each placeholder gives way to its picture's tokens.

Flow: ids with one placeholder per picture + `Layout` -> ids with the pictures' tokens -> positions of patches, and of
the tokens whose embeddings are the vision side's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava_doors.family import Layout


@dataclass(frozen=True)
class Placed:
    """A prompt with its pictures' tokens.

    Args:
        ids: token ids.
        moved: per id of the prompt before, where it stands now; a placeholder where its picture begins.
        patches: positions in `ids` of the patches of all grids, in the order of the maps; a range where it can be one.
        filled: positions in `ids` whose embeddings are replaced by features, ascending.
        separators: positions in `ids` of the pictures' tokens that are in no grid, ascending.
    """

    ids: tuple[int, ...]
    moved: tuple[int, ...]
    patches: Sequence[int]
    filled: tuple[int, ...]
    separators: tuple[int, ...]


def placed(ids: Sequence[int], placeholder_id: int, image_token_id: int, layout: Layout) -> Placed:
    """Puts the pictures of a layout in the place of its placeholders, which `ids` has as many of."""
    now: list[int] = []
    moved, starts, filled = [], [], []
    expansions = iter(layout.expansions)
    for token in ids:
        moved.append(len(now))
        if token != placeholder_id:
            now.append(token)
            continue
        start, tokens = len(now), next(expansions)
        starts.append(start)
        now += tokens
        filled += [start + i for i, one in enumerate(tokens) if one == image_token_id]
    patches = [starts[grid.image] + token for grid in layout.grids for token in grid.tokens]
    taken = set(patches)
    every = (start + i for start, tokens in zip(starts, layout.expansions, strict=True) for i in range(len(tokens)))
    separators = tuple(place for place in every if place not in taken)
    return Placed(tuple(now), tuple(moved), as_range(patches), tuple(filled), separators)


def as_range(numbers: Sequence[int]) -> Sequence[int]:
    """The same numbers; as a range where they follow one another, because tensors are then sliced and not copied."""
    if not numbers:
        return range(0)
    run = range(numbers[0], numbers[0] + len(numbers))
    return run if list(numbers) == [*run] else tuple(numbers)
