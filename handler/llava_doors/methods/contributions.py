"""Contributions: how much of each word's logit was read from each patch, an exact sum with negative parts.

Flow: the rows run again against the cache, attention weights, factors of norms and gates held constant, so that the
network is linear in what each row reads -> L, the word's logit less the mean logit (or a rival's) -> its gradient g for
what every head reads -> patch j gives the sum over layers and heads of a_j (v_j . g); prompt, answer and the row's own
token give the rest. All parts sum to L, which is checked for every answer.

Source: close to the conservative propagation of Ali et al., "XAI for Transformers" (ICML 2022), with the keys and
values of the cache as constants: what earlier tokens gathered from the picture counts as theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llava_doors.asked import AskedView, Layout, Reach, Shape
from llava_doors.door import Declaration, Parameter
from llava_doors.method import Maps, Method, Needs, Replay, Seen
from llava_doors.parts.margins import logits_of, runners_up
from llava_wire.errors import RequestError
from llava_wire.quantity import Quantity
from llava_wire.schema import SEPARATORS

if TYPE_CHECKING:
    import torch

RUNNER_UP = "runner-up"
TOLERANCE = 1e-3
"""How far the parts may be off, as a part of the logit or of their own absolute sum, whichever is more."""
DECLARATION = Declaration(
    name="contributions",
    summary="How much of a word's logit, above that of the average word or a rival, was read from each patch.",
    implementation="llava_doors.methods.contributions:Contributions",
    parameters=(
        Parameter(
            "rival",
            "text",
            "",
            f"Against which word: a text, or {RUNNER_UP!r} for the most probable other word of each row; empty for the "
            "mean over all words.",
        ),
    ),
    quantity=Quantity("contribution to the logit", "logit", signed=True, additive=True),
    traits={"heads": False},
)


class Contributions(Method):
    """One map per row, over all layers and heads."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", values=True, gradients="asked")

    def check(self, view: AskedView, tokenizer: Any) -> None:
        """See `Method`: the rival is a word of the tokenizer."""
        if (text := str(view.parameters["rival"])) not in ("", RUNNER_UP):
            first_token(tokenizer, text)

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: gradients of what heads read in all layers, and one layer's products."""
        return 4 * reach.rows * facts.heads * (facts.layers * facts.head_dim + 2 * reach.length)

    def maps(self, seen: Seen, view: AskedView) -> Maps:
        """See `Method`.

        Raises:
            RequestError: "invalid", a model that is not linear with attention, norms and gates held.
        """
        replay = seen.replay(hold=("attention", "norms", "gates"))
        targets = seen.targets
        rivals, notes = _rivals(seen, replay.logits, targets, view)
        other = replay.logits.mean(-1) if rivals is None else logits_of(replay.logits, rivals)
        margin = logits_of(replay.logits, targets) - other  # [row]
        columns, itself = _columns(seen, replay, margin)  # [row, key], [row]
        rest = margin.detach() - columns.sum(1) - itself
        _check(seen, replay, margin, rest, columns, itself)
        parts = _split(columns, seen.layout)
        parts |= {"itself": itself[:, None]}
        if replay.has_biases:
            parts |= {"biases": rest[:, None]}
        device = seen.device
        return Maps(
            columns[:, None, seen.layout.image].to(device),
            parts={name: part.to(device) for name, part in parts.items()},
            notes=notes,
        )


def _columns(seen: Seen, replay: Replay, margin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[row, key]: what each row read from earlier tokens; [row]: what its own token brought, reads of itself too."""
    import torch

    layers = sorted(replay.reads)
    slopes = replay.gradients(margin.sum(), [replay.embeddings, *(replay.reads[layer] for layer in layers)])
    itself = (replay.embeddings.detach() * slopes[0]).sum(-1)  # [row]
    keys = torch.arange(seen.layout.length, device=itself.device)
    earlier = keys < seen.layout.positions.to(itself.device)[:, None]  # [row, key]
    columns = itself.new_zeros(earlier.shape)
    for layer, slope in zip(layers, slopes[1:], strict=True):
        values = seen.values(layer).float()  # [kv head, key, head_dim]
        groups = slope.shape[1] // len(values)
        pulls = slope.unflatten(1, (-1, groups)).permute(1, 2, 0, 3)  # [kv head, group, row, head_dim]
        pull = (pulls.flatten(1, 2) @ values.transpose(1, 2)).unflatten(1, (groups, -1)).flatten(0, 1)
        columns += (replay.weights[layer].detach() * pull).sum(0).to(columns.device)  # [head, row, key] -> [row, key]
    return columns * earlier, itself


def _split(columns: torch.Tensor, layout: Layout) -> dict[str, torch.Tensor]:
    """[row, 1] each: the parts of the patches, the rest of the prompt, and the answer; separators apart."""
    parts = {"image": columns[:, layout.image].sum(1)}
    prompt = columns[:, : layout.prompt_length].sum(1) - parts["image"]
    if len(layout.separators):
        apart = columns[:, layout.separators].sum(1)
        parts |= {"prompt": prompt - apart, SEPARATORS: apart}
    else:
        parts["prompt"] = prompt
    parts["answer"] = columns[:, layout.prompt_length :].sum(1)
    return {name: part[:, None] for name, part in parts.items()}


def _rivals(
    seen: Seen, logits: torch.Tensor, targets: torch.Tensor, view: AskedView
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """[row] int64: the word that each row's is held against, None for the mean of all; and what to say of it."""
    import torch

    text = str(view.parameters["rival"])
    if not text:
        return None, ()
    if text == RUNNER_UP:
        return runners_up(logits, targets), ()
    first, is_whole = first_token(seen.tokenizer, text)
    notes = []
    if not is_whole:
        piece = seen.tokenizer.decode([first])
        notes.append(f"The rival {text!r:.60} is several tokens; rows are held against the first, {piece!r:.40}.")
    if first in seen.tokenizer.all_special_ids:
        notes.append(f"The rival {text!r:.60} is a special token, which stands for no word.")
    if bool((targets == first).any()):
        notes.append(f"Words that are the rival {text!r:.60} themselves have maps of zeros.")
    return torch.full_like(targets, first), tuple(notes)


def first_token(tokenizer: Any, text: str) -> tuple[int, bool]:
    """The token that a word begins with inside an answer, and whether the word is that token alone.

    Raises:
        RequestError: "invalid", a text of no token, or of none that the vocabulary knows.
    """
    wanted = text.strip()
    for given in (f" {wanted}", wanted):  # after other words, then as the first one
        ids = list(tokenizer.encode(given, add_special_tokens=False))
        while ids and not tokenizer.decode(ids[:1]).strip():
            ids = ids[1:]
        if wanted and ids and ids[0] != tokenizer.unk_token_id and wanted.startswith(tokenizer.decode(ids[:1]).strip()):
            return ids[0], len(ids) == 1
    raise RequestError(
        "invalid",
        "parameters.rival",
        f"got {text!r:.80}, expected a word that the model's tokenizer knows; name another",
    )


def _check(
    seen: Seen, replay: Replay, margin: torch.Tensor, rest: torch.Tensor, columns: torch.Tensor, itself: torch.Tensor
) -> None:
    """Holds what is left of each row's logit against what biases add: of a model without them, nothing.

    Raises:
        RequestError: "invalid".
    """
    scale = margin.detach().abs() + columns.abs().sum(1) + itself.abs()  # [row]
    missing = (rest - replay.biases(margin.sum()).to(rest.device)).abs()
    worst = (missing / scale.clamp_min(1e-6)).argmax()  # of numbers that are none it is the first of them
    off, allowed = missing[worst], TOLERANCE * scale[worst]
    if not bool(off <= allowed):
        kind = seen.model.config.get_text_config(decoder=True).model_type
        raise RequestError(
            "invalid",
            "method",
            f"got parts that miss the logit by {float(off):.3g} for text model {kind!r}, expected at most "
            f"{float(allowed):.3g}: it is not linear with attention, norms and gates held; ask for another method",
        )
