"""The attention rows of a finished run, as methods see them: made when they are asked for, never kept.

Flow: captured queries + cached keys of one item -> layer by layer, blocks of rows (rows.py) -> whoever iterates. What
else a method may see of a run is in `llava_server.look`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from llava_doors.method import ATTENTION_ROWS, Cells, Needs, RowBlock
from llava_server.attend.capture import Pick, QueryCapture
from llava_server.attend.rows import RowLayout, attention_rows

Sights = Mapping[tuple[int, ...], torch.Tensor | None]
"""Groups of layers that share their masks -> which keys their rows could see, [row, key] bool counted without padding;
None when each row saw all up to its own position."""
_T = TypeVar("_T")


@dataclass
class SeenRows:
    """One item of a finished batch.

    Args:
        capture: the batch's queries; it holds every row of the layout in each layer that is asked for.
        cached: per layer [batch, kv head, padded key, head_dim], the cached keys.
        item: the item's place in the batch.
        layout: where its tokens lie and which rows are wanted.
        device: where maps belong.
        needs: what the method that looks has declared.
    """

    capture: QueryCapture
    cached: Sequence[torch.Tensor]
    item: int
    layout: RowLayout
    device: torch.device
    needs: Needs = ATTENTION_ROWS
    _sights: dict[int, torch.Tensor | None] = field(default_factory=dict, repr=False)
    _groups: dict[int, list[int]] = field(default_factory=dict, repr=False)
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def declaring(self, needs: Needs) -> SeenRows:
        """The same run for a method of these needs; what was made is shared."""
        return replace(self, needs=needs)

    @property
    def sights(self) -> Sights:
        """What the rows could see, of the layers that were looked at so far."""
        return {tuple(group): self._sights[first] for first, group in self._groups.items()}

    def rows(self, cells: Cells) -> Iterator[RowBlock]:
        """See `llava_doors.method.Seen`."""
        self.declared("rows", self.needs.rows != "none")
        for layer, heads in cells.items():
            queries = self.capture.queries(layer, self.item, self._pick)
            yield from self._blocks(layer, heads, queries, self.layout, self.sight(layer))

    def every_row(self, cells: Cells) -> Iterator[RowBlock]:
        """See `llava_doors.method.Seen`."""
        self.declared("rows of every position", self.needs.rows == "every")
        layout = replace(self.layout, positions=torch.arange(self.layout.length))
        pick = self._picked(layout)
        for layer, heads in cells.items():
            queries = self.capture.queries(layer, self.item, pick)
            yield from self._blocks(layer, heads, queries, layout, self.capture.sight(layer, self.item, pick, layout))

    def keys(self, layer: int) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        return self._of_item(self.cached[layer])

    def sight(self, layer: int) -> torch.Tensor | None:
        """[row, key] bool: which keys the rows of a layer could see; None: all up to their own position."""
        for first, group in self._groups.items():
            if layer in group:
                return self._sights[first]
        first = next((other for other in self._groups if self.capture.same_sight(layer, other)), layer)
        if first == layer:
            self._sights[layer] = self.capture.sight(layer, self.item, self._pick, self.layout)
        self._groups.setdefault(first, []).append(layer)
        return self._sights[first]

    def once(self, name: Any, make: Callable[[], _T]) -> _T:
        """See `llava_doors.method.Seen`."""
        if name not in self._made:
            self._made[name] = make()
        made: _T = self._made[name]
        return made

    def declared(self, what: str, is_declared: bool) -> None:
        """Refuses what the method that looks has not declared.

        Raises:
            RuntimeError: naming what it asked for.
        """
        if not is_declared:
            raise RuntimeError(f"needs: got a method that asks for {what}, expected it to say so in `needs`")

    def _blocks(
        self,
        layer: int,
        heads: Sequence[int],
        queries: torch.Tensor,
        layout: RowLayout,
        sight: torch.Tensor | None,
    ) -> Iterator[RowBlock]:
        scaling = self.capture.scaling[layer]
        keys = self.cached[layer][self.item]
        for block in attention_rows(queries, keys, tuple(heads), scaling, layout, sight):
            yield RowBlock(layer, *block, layout)

    @property
    def _pick(self) -> Pick:
        return self.once(("pick",), lambda: self._picked(self.layout))

    def _picked(self, layout: RowLayout) -> Pick:
        positions = [layout.pad + position for position in layout.positions.tolist()]
        return self.capture.pick(self.item, positions, self.device)

    def _of_item(self, cached: torch.Tensor) -> torch.Tensor:
        """[kv head, key, head_dim] without padding; a copy where it may become part of a graph."""
        part = cached[self.item, :, self.layout.pad : self.layout.pad + self.layout.keys]
        return part.clone() if part.is_inference() and self.needs.gradients != "none" else part
