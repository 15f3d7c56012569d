"""What a view averages: four reductions, each one object that knows its axes, its maps per row, its divisor and words.

Flow: a name of an option or a record -> `reduction_of` -> `Reduction`, which server, record and viewer ask alike.
A selection is a grid of layers x heads, or (layer, head) pairs; a slot is one map of a row, the mean over its heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Reduction:
    """One way to average the single heads of a selection.

    Args:
        name: as options and records write it.
        keeps: the axes of a grid that stay: "layer", "head".
        over_steps: whether the answer's steps are averaged too, which leaves one map for the whole answer.
        number: what some tools call it; None without one.
        smaller: the reductions that give fewer maps per row, the larger one first.
    """

    name: str
    keeps: tuple[str, ...] = ()
    over_steps: bool = False
    number: int | None = None
    smaller: tuple[str, ...] = ()

    def allows(self, *, paired: bool) -> bool:
        """Whether it can be taken; pairs have no layer axis that could stay while heads are averaged."""
        return not paired or self.keeps != ("layer",)

    def axes(self, *, paired: bool) -> tuple[str, ...]:
        """Names of the axes of a view's maps."""
        kept = ("layer_head",) if paired and self.keeps else self.keeps
        return (*(() if self.over_steps else ("query",)), *kept, "patch")

    def shape(self, layers: Sequence[int], heads: Sequence[int], pairs: Pairs) -> tuple[int, ...]:
        """Lengths of the axes between "query" and "patch"."""
        if pairs:
            return (len(pairs),) if self.keeps else ()
        return tuple({"layer": len(layers), "head": len(heads)}[axis] for axis in self.keeps)

    def slots(
        self, layers: Sequence[int], heads: Sequence[int], pairs: Pairs
    ) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The (layer, head) cells that each map of a row averages; every slot averages equally many."""
        cells = tuple(pairs) or tuple((layer, head) for layer in layers for head in heads)
        if not self.keeps:
            return (cells,)
        if "head" in self.keeps:
            return tuple((cell,) for cell in cells)
        return tuple(tuple((layer, head) for head in heads) for layer in layers)

    def words(self, cells: int, steps: str = "") -> str:
        """What was averaged, for people.

        Args:
            cells: how many single heads the view selected; 0 where its method tells none apart.
            steps: the steps that were averaged, in words.
        """
        if cells == 0:
            return f"mean over answer steps {steps}" if self.over_steps else "nothing averaged"
        if self.over_steps:
            return f"mean over answer steps {steps} and over {cells} head{'s' if cells != 1 else ''}"
        if self.keeps == ("layer",):
            return "heads averaged, layers kept apart"
        if cells == 1:
            return "one head, nothing averaged"
        return "every head kept apart" if self.keeps else f"mean of {cells} heads"


_ALL = (
    Reduction("none", ("layer", "head"), smaller=("heads", "layers_heads")),
    Reduction("heads", ("layer",), number=3, smaller=("layers_heads",)),
    Reduction("layers_heads", number=2),
    Reduction("all", over_steps=True, number=1),
)
REDUCTIONS = {reduction.name: reduction for reduction in _ALL}
NUMBERED: Mapping[object, str] = {one.number: one.name for one in _ALL if one.number is not None}
"""What some tools say in numbers -> the name."""
DEFAULT = "layers_heads"


def reduction_of(name: str) -> Reduction:
    """The reduction of a name that was checked before."""
    return REDUCTIONS[name]
