"""What a method is told: the shape of the model, how far a request reaches, what a view asks, where tokens lie.

Importing this needs no torch. The server's own classes have these attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Shape(Protocol):
    """The shape of a model."""

    @property
    def layers(self) -> int:
        """Text layers."""

    @property
    def heads(self) -> int:
        """Query heads of a layer."""

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values of a layer."""

    @property
    def head_dim(self) -> int:
        """Values of a head."""

    @property
    def width(self) -> int:
        """Values of a hidden state."""


class Reach(Protocol):
    """How far a request reaches, at most."""

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""

    @property
    def rows(self) -> int:
        """Rows that are shown."""

    @property
    def patches(self) -> int:
        """Patches of all grids of all pictures."""

    @property
    def grids(self) -> Sequence[tuple[int, int]]:
        """Rows and columns of each grid."""


class AskedView(Protocol):
    """One view of a request: what was asked of the method."""

    @property
    def name(self) -> str:
        """Unique in the request."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The value of each declared parameter."""

    @property
    def cells(self) -> Mapping[int, tuple[int, ...]]:
        """The selection: layer -> heads; all of them where the method knows no heads."""

    @property
    def slots(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The (layer, head) cells that each map of a row averages: one slot for each map."""


class Layout(Protocol):
    """Where the tokens of a run lie; positions count without padding."""

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""

    @property
    def has_bos(self) -> bool:
        """Whether the first token is the start of sequence."""

    @property
    def image(self) -> slice | torch.Tensor:
        """The positions of the patches of all grids, for subscripting: `weights[..., image]`."""

    @property
    def patches(self) -> int:
        """How many patches there are."""

    @property
    def text(self) -> tuple[slice | torch.Tensor, ...]:
        """The prompt's other positions but for the start of sequence, in one or several parts for subscripting."""

    @property
    def separators(self) -> torch.Tensor:
        """[token] int64 on the CPU: those of `text` that are an image's tokens in no grid (newlines, class tokens)."""

    @property
    def words(self) -> torch.Tensor:
        """[column] int64 on the CPU: the positions that are no patches, the columns of a method of text."""

    @property
    def length(self) -> int:
        """Positions of prompt and answer, but for the answer's last token, which no row follows."""

    @property
    def positions(self) -> torch.Tensor:
        """[row] int64 on the CPU: the position of each row; the token after it is what the row predicted."""
