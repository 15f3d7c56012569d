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
SIDE_BY_SIDE = 8
"""Sets of patches that run side by side where nobody says."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Needs:
    """What a method needs of a run; what it does not name here, `Seen` refuses to give.

    Args:
        rows: attention rows: "none", those that were "asked" for (of answer tokens, of the question's), those and all
            of the "answer", `Seen.whole_answer`, or of "every" position.
        values: the cached values, `Seen.values`.
        hidden: layers whose incoming states are read, `Seen.hidden`; the number of layers stands for what leaves the
            last one, one more for what goes into the unembedding, after the last norm. Costs one forward.
        gradients: a differentiable replay of the rows that were "asked" for against the cache, or of the "whole" of
            prompt and answer, `Seen.replay`; or of further "passes" alone, `Seen.forward`, which "whole" lets be
            differentiated too.
        questions: other questions about the same picture, `Seen.other`; each costs one prefill.
        passes: teacher-forced forwards that run side by side at most, `Seen.forward`; 0 for none.
    """

    rows: Literal["none", "asked", "answer", "every"] = "asked"
    values: bool = False
    hidden: tuple[int, ...] = ()
    gradients: Literal["none", "asked", "whole", "passes"] = "none"
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

    @property
    def has_biases(self) -> bool:
        """Whether the text model adds biases."""

    def biases(self, of: torch.Tensor) -> torch.Tensor:
        """[row]: what each row's biases add to a number that is linear once `hold` has made the rest constant."""

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
    def tokens(self) -> torch.Tensor:
        """[position] int64 on the CPU: the token that stands at each position."""

    @property
    def ordinary(self) -> torch.Tensor:
        """[position] bool: whether the token after a position is one of the answer's, and no special one."""

    @property
    def grids(self) -> Sequence[tuple[int, int]]:
        """Rows and columns of each grid; a map holds the patches of one grid after another, row by row."""

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
        """[position, width]: the states that went into a layer, left the last one, or went into the unembedding."""

    def replay(self, reach: Literal["asked", "whole"] = "asked", hold: Collection[Held] = ()) -> Replay:
        """Rows run again with gradients.

        Args:
            reach: the rows that were asked for, or all positions.
            hold: what counts as constant: attention weights, the factors of norms, the gates of gated layers (of
                others the ratio of each activation to what went in).
        """

    def embeddings(self) -> torch.Tensor:
        """[position, width]: what goes into the first layer, the picture's patches among it; a copy of your own."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[n, row, vocabulary] float32: logits of the rows for other embeddings [n, position, width].

        Patches are blanked by writing to `embeddings[..., layout.image, :]`. Counts as n passes, see `spend`.
        """

    def spend(self, passes: int) -> None:
        """Counts passes against the request's time, before they run; `forward` does so itself, backwards count double.

        Raises:
            RequestError: "deadline", where the time is over, or cannot be enough at this pace.
        """

    def log_probs(self, keep: torch.Tensor) -> torch.Tensor:
        """[set, row] float32: log p in nats of the token after each row when only some patches are shown.

        Every other patch's embedding is replaced by the mean of all; the words before a row stay. As many sets run side
        by side as `Needs.passes` says, one batch after another.

        Args:
            keep: [set, patch] bool; patches in the order of the maps, those of all grids; True: shown. Or float32 in 0
                to 1: how far each is shown, the rest of it the mean.
        """

    def whole_answer(self) -> Seen:
        """The same run with one row for every token of the answer, whichever are shown; itself where those are."""

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
        parts: name -> [row, slot] float32, what the rest of a row's total is made of where the quantity is no share;
            with all names the sum is the total. One of them is usually "image", the sum of the map.
        notes: sentences that a reader of these very maps must know, such as patches that were left out.
        separators: [row, slot] float32, what of the prompt text's share lies on `Layout.separators`; None where there
            are none, or they are not told apart.
    """

    values: torch.Tensor
    shares: torch.Tensor | None = None
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    separators: torch.Tensor | None = None


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

    def check(self, view: AskedView, tokenizer: Any) -> None:  # noqa: B027 - most methods have nothing to refuse
        """Refuses parameters that mean nothing to this model, before anything runs.

        Args:
            view: what is asked.
            tokenizer: the model's, of transformers.

        Raises:
            RequestError: "invalid"; its field starts at the view, such as "parameters.rival".
        """

    def passes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """Passes over prompt and answer that it runs in all, a backward counted as two; what is too long is refused."""
        return 0

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """Device memory of its own at one time, beside what `needs` names and the maps."""
        return 0

    @abstractmethod
    def maps(self, seen: Seen, view: AskedView) -> torch.Tensor | Maps:
        """The maps of a view: [row, slot, patch] float32 on `seen.device`, rows as in `seen.layout.positions`.

        Raises:
            RequestError: as in `check`, or "method" as its field: this model cannot be looked at that way.
        """


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
