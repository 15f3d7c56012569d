"""Attention rows folded into the maps of a view, with the split of each row; those of the answer's ordinary words too.

Flow: blocks of rows -> `AttentionFold` -> means [row, slot, patch] and shares; `ordinary_words` gives those of every
ordinary word of the answer, whichever rows are shown, for methods that compare rows with one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llava_doors.asked import AskedView
from llava_doors.method import Maps, RowBlock, Seen
from llava_doors.parts.slots import SlotMeans
from llava_wire.schema import SHARE_NAMES

if TYPE_CHECKING:
    import torch

SHARES = len(SHARE_NAMES)
SPLIT = SHARES + 1
"""Numbers of a row's split, that of separators included."""


class AttentionFold:
    """Accumulates one view of one request.

    Methods that make something else of the finished means override `finish`.

    Args:
        seen: the run.
        view: which layers and heads, and what each map averages.
    """

    def __init__(self, seen: Seen, view: AskedView) -> None:
        self._seen, self._view = seen, view
        layout = seen.layout
        self._apart = len(layout.separators) > 0
        widths = (layout.patches, SHARES, *([1] if self._apart else []))
        self._means = SlotMeans(view, len(layout.positions), widths, seen.device)

    def add(self, block: RowBlock) -> None:
        """See `llava_doors.method.Fold`."""
        if self._means.reads(block.layer, block.heads):
            shares = block.once("shares", lambda: split(block))
            apart = [block.once("separators", lambda: on_separators(block))[..., None]] if self._apart else []
            self._means.add(block.layer, block.heads, block.rows, block.image, shares, *apart)

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        values, shares, *apart = self._means.finish()
        return Maps(values, shares, separators=apart[0][..., 0] if apart else None)


def split(block: RowBlock) -> torch.Tensor:
    """[head, row, 4]: how each row splits over bos, image, prompt text, answer text; sums to 1."""
    import torch

    weights, layout = block.weights, block.layout
    first = 1 if layout.has_bos else 0
    bos = weights[..., :first].sum(-1)
    on_image = block.image.sum(-1)
    answer = weights[..., layout.prompt_length :].sum(-1)
    text, *rest = (weights[..., part].sum(-1) for part in layout.text)
    for part in rest:
        text = text + part
    return torch.stack([bos, on_image, text, answer], dim=-1)


def on_separators(block: RowBlock) -> torch.Tensor:
    """[head, row]: what of the prompt text's share lies on the images' tokens that are in no grid."""
    return block.weights[..., block.layout.separators].sum(-1)


@dataclass(frozen=True)
class Words:
    """The ordinary words of an answer, special tokens left out.

    Args:
        ids: [word] int64, their tokens.
        maps: [word, slot, patch] float32, the attention of the rows that predicted them.
    """

    ids: torch.Tensor
    maps: torch.Tensor


def row_means(seen: Seen, view: AskedView) -> Maps:
    """Raw attention of the rows of a run."""
    fold = AttentionFold(seen, view)
    for block in seen.rows(view.cells):
        fold.add(block)
    return fold.finish()


def ordinary_words(seen: Seen, view: AskedView, own: torch.Tensor) -> Words:
    """The ordinary words of the finished answer, whichever rows are shown; needs the rows of the "answer".

    Args:
        seen: the run.
        view: which layers and heads, and what each map averages.
        own: [row, slot, patch], attention of the rows that are shown, which mostly are the answer's.
    """
    whole = seen.whole_answer()
    maps = own if whole is seen else row_means(whole, view).values
    ordinary = whole.ordinary[whole.layout.positions]
    return Words(whole.targets[ordinary.to(whole.targets.device)], maps[ordinary.to(maps.device)])


def whole_answer_bytes(view: AskedView, rows: int, patches: int) -> int:
    """Device memory of `ordinary_words` at most: the rows of the whole answer beside those shown, and a copy."""
    return 2 * 4 * rows * len(view.slots) * (patches + SPLIT)
