"""Token activation maps: which image tokens' last states look like the word, less what earlier words explain.

Flow: what goes into the unembedding at every position -> a = ReLU(logit of the row's word) at each patch, a_p the same
for the word at each text position p between the image and the row -> E = sum of r_p a_p / sum of r_p, r_p = ReLU(logit
of the row's word at p) -> ReLU(a - (a . E / E . E) E) -> divided by the range of map and r -> a 3 x 3 filter of
ranks (Li et al. 2025, "Token activation map to visually explain multimodal LLMs", ICCV, arXiv 2506.23270).

It takes for granted that states of image tokens are words of the vocabulary. Where they are not, it points nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Maps, Method, Needs, Seen
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

_FLOAT, _TINY, _BLOCK = 4, 1e-12, 64
NOTE = (
    "token activation maps are right where states of image tokens are words. On llava-shapes they are not: there the "
    "strongest patch lies in the named object for .15 of colours and .09 of shapes, of an even map for .07."
)
DECLARATION = Declaration(
    name="tam",
    summary="Token activation map (Li et al. 2025): image states that look like the word; fails if they are no words.",
    implementation="llava_doors.methods.tam:Tam",
    quantity=Quantity("token activation"),
    traits={"heads": False},
)


class Tam(Method):
    """One map per row, of last states alone."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", hidden=(facts.layers + 1,))

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: states in float32, and logits of the words that there are, at every position."""
        words = reach.length + reach.rows
        return _FLOAT * (reach.length * (facts.width + 4 * words) + 32 * reach.rows * reach.patches)

    def maps(self, seen: Seen, view: AskedView) -> Maps:
        """See `Method`."""
        import torch

        text = _text_after(seen)
        logits, at, targets = _logits(seen)
        relevant = (text[:, None] <= seen.layout.positions) & ~_alike(seen, text)  # [text, row]
        relevance = logits[text][:, targets].clamp(min=0) * relevant.to(logits.device)  # [text, row]
        image = logits[seen.layout.image]  # [patch, word]
        own, others = image[:, targets].clamp(min=0), image[:, at[text]].clamp(min=0)  # [patch, row], [patch, text]
        context = others @ relevance / relevance.sum(0).clamp(min=_TINY)  # [patch, row]
        factor = (own * context).sum(0) / (context**2).sum(0).clamp(min=_TINY)
        left = (own - factor * context).clamp(min=0)
        both = torch.cat([left, relevance])
        scaled = (left - both.amin(0)) / (both.amax(0) - both.amin(0)).clamp(min=_TINY)
        parts = scaled.T.split([rows * cols for rows, cols in seen.grids], 1)  # [row, patch] each
        maps = [ranked(part.unflatten(1, grid)).flatten(1) for part, grid in zip(parts, seen.grids, strict=True)]
        return Maps(torch.cat(maps, 1)[:, None].to(seen.device), notes=(NOTE,))


def ranked(maps: torch.Tensor) -> torch.Tensor:
    """[row, height, width]: each value replaced by the mean of the 3 x 3 around it, weighed by their ranks.

    The median counts most; the more the nine differ, for their size, the more the others count too.
    """
    import torch
    from torch.nn.functional import pad

    border = "reflect" if min(maps.shape[1:]) > 1 else "replicate"
    nine = pad(maps, (1, 1, 1, 1), mode=border).unfold(1, 3, 1).unfold(2, 3, 1).flatten(3).sort(-1).values
    spread = nine.std(-1, correction=0) / nine.mean(-1).clamp(min=_TINY)  # [row, height, width]
    ranks = torch.arange(-4, 5, device=maps.device)
    weights = (-(ranks**2) / (2 * spread[..., None] ** 2 + _TINY)).exp()
    return (nine * weights).sum(-1) / weights.sum(-1)


def _text_after(seen: Seen) -> torch.Tensor:
    """[text] int64: the positions after the first patch that are no patches."""
    import torch

    positions = torch.arange(seen.layout.length)
    image = positions[seen.layout.image]
    is_text = positions > image[0]
    is_text[image] = False
    return is_text.nonzero()[:, 0]


def _logits(seen: Seen) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[position, word] float32: at every position, the logit of each word of prompt and answer.

    With it [position] and [row] int64: which of these words stands at each position, and which follows each row.
    """
    import torch

    head = seen.model.get_output_embeddings()
    words, places = torch.cat([seen.tokens, seen.targets.cpu()]).unique(return_inverse=True)
    states = seen.hidden(len(seen.model.get_decoder().layers) + 1)  # [position, width]
    logits = torch.cat([head(some)[:, words.to(some.device)] for some in states.split(_BLOCK)]).float()
    return logits, places[: len(seen.tokens)], places[len(seen.tokens) :]


def _alike(seen: Seen, text: torch.Tensor) -> torch.Tensor:
    """[text, row] bool: whether the token at a position reads as the row's word."""
    import torch

    words = {token: seen.tokenizer.decode([token]) for token in {*seen.tokens[text].tolist(), *seen.targets.tolist()}}
    wanted = [words[token] for token in seen.targets.tolist()]
    found = [[words[token] == word for word in wanted] for token in seen.tokens[text].tolist()]
    return torch.tensor(found, dtype=torch.bool).reshape(len(text), len(wanted))
