"""What a method of looking is: what it needs of a finished run, what it may see of it, and the maps that it makes.

Flow: `Method.needs` (before anything runs; what it names is kept, nothing else) -> the run -> `Seen`, the run as the
method sees it -> `Method.maps`, float32 [row, slot, patch] on the device. docs/own-method.md writes one in 40 lines.

Importing this needs no torch, and a method knows nothing of the server but these words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from llava_doors.asked import AskedView, Layout, Reach, Shape

if TYPE_CHECKING:
    import torch

Cells = Mapping[int, Sequence[int]]
"""Layer -> the heads that are read in it."""
Held = Literal["attention", "norms", "gates"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Needs:
    """What a method needs of a run; what it does not name here, `Seen` refuses to give.

    Args:
        rows: attention rows: "none", those that were "asked" for (of answer tokens, of the question's), or of "every"
            position.
        values: the cached values, `Seen.values`.
        hidden: layers whose incoming states are read, `Seen.hidden`; the number of layers stands for what leaves the
            last one. Costs one forward.
        gradients: a differentiable replay of the rows that were "asked" for against the cache, or of the "whole" of
            prompt and answer, `Seen.replay`; "whole" also lets `Seen.forward` be differentiated.
        questions: other questions about the same picture, `Seen.other`; each costs one prefill.
        passes: teacher-forced forwards that run side by side at most, `Seen.forward`; 0 for none.
    """

    rows: Literal["none", "asked", "every"] = "asked"
    values: bool = False
    hidden: tuple[int, ...] = ()
    gradients: Literal["none", "asked", "whole"] = "none"
    questions: tuple[str, ...] = ()
    passes: int = 0


ATTENTION_ROWS = Needs()
"""What raw attention needs."""


@dataclass(frozen=True)
class RowBlock:
    """A block of attention rows of one layer; all methods of a request see the same ones.

    Args:
        layer: 0-based.
        heads: which, ascending; those that other views read may be among them.
        rows: which rows, as a slice of all.
        weights: [head, row, key] float32, each row sums to 1; not to be changed.
        layout: where the keys lie.
    """

    layer: int
    heads: tuple[int, ...]
    rows: slice
    weights: torch.Tensor
    layout: Layout
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def image(self) -> torch.Tensor:
        """[head, row, patch]: the columns of the picture."""
        return self.weights[..., self.layout.image]

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """What `make` gives, made once for all views that ask for it by this name."""
        if name not in self._made:
            self._made[name] = make()
        made: _T = self._made[name]
        return made


class Replay(Protocol):
    """Rows run again with gradients, in float32 whatever the model's dtype is.

    Keys and values of other rows are constants when the rows that were asked for run against the cache, so rows do not
    depend on one another: the gradient of a sum over rows is every row's own gradient.
    """

    @property
    def embeddings(self) -> torch.Tensor:
        """[row, width]: what went in."""

    @property
    def weights(self) -> Mapping[int, torch.Tensor]:
        """Layer -> [head, row, key] attention, part of the graph."""

    @property
    def reads(self) -> Mapping[int, torch.Tensor]:
        """Layer -> [row, head, head_dim]: what each head read, before the output projection."""

    @property
    def logits(self) -> torch.Tensor:
        """[row, vocabulary]."""

    def gradients(self, of: torch.Tensor, wrt: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The gradients of a number; the graph stays, for the request's other views."""


class Seen(Protocol):
    """A finished run as a method sees it: everything is made when it is asked for, once for all views of a request."""

    @property
    def layout(self) -> Layout:
        """Where the tokens lie, and which rows are shown."""

    @property
    def targets(self) -> torch.Tensor:
        """[row] int64: the token that follows each row, which for answer rows is the one it predicted."""

    @property
    def ordinary(self) -> torch.Tensor:
        """[position] bool: whether the token after a position is one of the answer's, and no special one."""

    @property
    def device(self) -> torch.device:
        """Where maps belong."""

    @property
    def model(self) -> Any:
        """The model of transformers, for what these words do not offer; not to be changed."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers, for parameters that are text."""

    def rows(self, cells: Cells) -> Iterator[RowBlock]:
        """The attention rows that were asked for, layer by layer; every wanted head comes with every row once."""

    def every_row(self, cells: Cells) -> Iterator[RowBlock]:
        """The same of every position of prompt and answer."""

    def keys(self, layer: int) -> torch.Tensor:
        """[kv head, key, head_dim]: the cached keys, rotated, in the model's dtype."""

    def values(self, layer: int) -> torch.Tensor:
        """[kv head, key, head_dim]: the cached values, in the model's dtype."""

    def output_weight(self, layer: int) -> torch.Tensor:
        """[head, head_dim, width] float32: what each head's values are multiplied by when they are written."""

    def hidden(self, layer: int) -> torch.Tensor:
        """[position, width]: the states that went into a layer, or left the last one."""

    def replay(self, reach: Literal["asked", "whole"] = "asked", hold: Collection[Held] = ()) -> Replay:
        """Rows run again with gradients.

        Args:
            reach: the rows that were asked for, or all positions.
            hold: what counts as constant: attention weights, the factors of norms, the gates of gated layers.
        """

    def embeddings(self) -> torch.Tensor:
        """[position, width]: what goes into the first layer, the picture's patches among it; a copy of your own."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[n, row, vocabulary] float32: logits of the rows for other embeddings [n, position, width].

        Patches are blanked by writing to `embeddings[..., layout.image, :]`.
        """

    def other(self, question: str) -> Seen:
        """The same picture asked another question: one row, that of the prompt's last position."""

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """What `make` gives, made once for all views that ask for it by this name."""


@dataclass(frozen=True)
class Maps:
    """What a method makes of a run.

    Args:
        values: [row, slot, patch] float32.
        shares: [row, slot, 4] float32, how each row splits over bos, image, prompt text and answer text, where the
            quantity is a share; else None.
        notes: sentences that a reader of these very maps must know, such as patches that were left out.
    """

    values: torch.Tensor
    shares: torch.Tensor | None = None
    notes: tuple[str, ...] = ()


class Fold(Protocol):
    """Takes attention rows block by block."""

    def add(self, block: RowBlock) -> None:
        """Takes one block; heads that the view does not read are ignored."""

    def finish(self) -> Maps:
        """The maps of all blocks."""


class Method(ABC):
    """A way to make maps of a finished run. Made anew for each question below: what it keeps is gone at the next."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """What it needs for a view; attention rows alone unless it says otherwise."""
        return ATTENTION_ROWS

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """Device memory of its own at one time, beside what `needs` names and the maps."""
        return 0

    @abstractmethod
    def maps(self, seen: Seen, view: AskedView) -> torch.Tensor | Maps:
        """The maps of a view: [row, slot, patch] float32 on `seen.device`, rows as in `seen.layout.positions`."""


class RowMethod(Method):
    """A method that takes attention rows block by block; all of a request's share one pass over its layers."""

    @abstractmethod
    def fold(self, seen: Seen, view: AskedView) -> Fold:
        """What takes the rows of one view."""

    def maps(self, seen: Seen, view: AskedView) -> torch.Tensor | Maps:
        """The same alone."""
        fold = self.fold(seen, view)
        for block in seen.rows(view.cells):
            fold.add(block)
        return fold.finish()


def span(indices: Sequence[int]) -> slice | list[int]:
    """Indices for subscripting: a slice where they follow one another, because a slice copies nothing."""
    first = indices[0]
    return slice(first, first + len(indices)) if list(indices) == [*range(first, first + len(indices))] else [*indices]
