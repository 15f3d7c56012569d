"""The self-test at load: the engine's rows and tokens against the loaded model's own eager attention.

Flow: a long and a short prompt of random text around a random picture -> the engine answers both in one padded batch,
and what goes into each layer is kept -> the same tokens through the model's own forward with eager attention, each
layer given what it was given in the engine's run -> largest difference of any row, of what goes into the next layer, of
any log probability -> facts for every record, or a `SettingsError`.

It asks what the model does and not what it is called: attention sinks, latent caches, soft caps, linear attention and
whatever an architecture adds later differ in the rows, or hand their attention something that is not known here.

Each layer starts from the engine's own states, and eager attention is computed in float32, because in half precision
two right computations drift apart from layer to layer: in 32 layers with sharp attention by up to 1 in a row. So held,
random models of 4 and 32 layers differ by 4e-6 at most in every dtype on the CPU; the limits for half precision leave
room for other kernels' rounding of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.attend.rows import RowLayout
from llava_server.attend.seen import SeenRows
from llava_server.check.eager import eager_rows, layer_inputs, number_of, replaced_inputs
from llava_server.check.trial import NEW_TOKENS, SEED, trial_item, trial_sizes, trial_text
from llava_server.load.loading import LoadedModel
from llava_server.load.probe import observe
from llava_server.look.reduce import reduced_views
from llava_server.run.batch import BatchItem, BatchRun, layout_of, moved
from llava_server.run.generate import generate
from llava_server.run.static import StaticDecoder
from llava_wire.schema import Note

LONG_TOKENS = 512
"""Prompt tokens of the longer prompt, at least; it crosses every window up to that."""
_SHORT_TEXT = 9
ROW_LIMITS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""The largest allowed difference of a weight, of a running sum over the image tokens, or of a share, by dtype."""
STATE_LIMITS = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""The largest allowed difference of what goes into a layer, as a part of its length."""
LOGPROB_LIMITS = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
"""The largest allowed difference of a token's log probability, and of the best token's from the engine's best one's."""
_STATIC_FACTOR = 10
"""Static buffers are held against the growing cache, where rounding does drift from step to step."""
_KNOWN = frozenset(
    {"dropout", "scaling", "position_ids", "use_cache", "sliding_window", "is_causal", "cache_position"}
    | {"logits_to_keep"}  # which rows the head is given, which some models hand down to their layers
)
"""What a layer may hand to its attention: none of it changes which softmax is taken."""
_NOT_TESTED = Note(
    "not-tested", "model", "The maps of this model were not tested against its own attention (self_test: off)."
)
_WHAT = {
    "row": "rows that differ by",
    "state": "inputs of a layer that differ by",
    "logprob": "log probabilities that differ by",
    "behind": "greedy tokens behind the best by a log probability of",
}
_OVERRIDE = "set self_test: off in the model's YAML to load it all the same, with maps that may be wrong"


@dataclass(frozen=True)
class _Found:
    """The largest differences: of rows, states, log probabilities, and of the best token's from the engine's best."""

    row: float
    state: float
    logprob: float
    behind: float


def with_self_test(loaded: LoadedModel, settings: ModelSettings, static: StaticDecoder | None = None) -> LoadedModel:
    """The model with what every record says of its self-test; it was not tested where the settings say so.

    Raises:
        SettingsError: as `self_test`.
    """
    if settings.self_test:
        return replace(loaded, checks={"self_test": self_test(loaded, static)})
    return replace(loaded, checks={"self_test": {"result": "not tested"}}, notes=(*loaded.notes, _NOT_TESTED))


@torch.inference_mode()
def self_test(loaded: LoadedModel, static: StaticDecoder | None = None) -> dict[str, Any]:
    """Checks a loaded model.

    Args:
        loaded: model and processor, with the capture on.
        static: static buffers that decode too, or None.

    Returns:
        what every record says of it: result, limits and what was measured.

    Raises:
        SettingsError: the engine cannot show this model's attention; the message says where it differs and by how much.
    """
    # Random text never ends an answer, and a published way of choosing tokens is no part of the model.
    bare = replace(loaded, eos_ids=(), choosing=None)
    facts, pictures = loaded.facts, loaded.layout(trial_sizes(loaded)).tokens
    room = facts.context - NEW_TOKENS - pictures
    texts = (min(max(LONG_TOKENS - pictures, 24), room), min(_SHORT_TEXT, room))
    if room < 2:
        raise SettingsError(
            f"config.text_config.max_position_embeddings: got {facts.context}, expected more than the "
            f"{pictures} tokens of an image, a question and an answer"
        )
    statically = _Found(0, 0, 0, 0)
    try:
        modules = _attention_modules(bare)
        items = [trial_item(bare, text, number) for number, text in enumerate(texts)]
        # Given, because a random model may choose the image token, which its own forward takes for a picture.
        answer = trial_text(bare, NEW_TOKENS + 1, SEED - 1)[1:]
        found = []
        # As the engine does: where a longer neighbour changes an answer, each runs alone.
        for batch in [[item] for item in items] if loaded.length_dependent else [items]:
            with layer_inputs(bare) as states:
                run = generate(bare, batch, given=[answer] * len(batch))
            found += [_compared(bare, item, run, index, modules, states) for index, item in enumerate(batch)]
        if static is not None:
            statically = _on_static_buffers(bare, answer, static)
    except SettingsError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(
            f"self-test: got {message!r:.200}, expected a text model that runs with transformers' sdpa and eager "
            "attention"
        ) from error
    name, dtype = str(loaded.model.dtype).removeprefix("torch."), loaded.model.dtype
    worst = {kind: max(getattr(one, kind) for one in found) for kind in ("row", "state", "logprob", "behind")}
    limits = {
        "row": ROW_LIMITS[dtype],
        "state": _state_limit(loaded.model),
        "logprob": LOGPROB_LIMITS[dtype],
        "behind": LOGPROB_LIMITS[dtype],
    }
    for kind, what in _WHAT.items():
        for value, factor, other in (
            (worst[kind], 1, "the model's own eager attention"),
            (getattr(statically, kind), _STATIC_FACTOR, "decoding without compile"),
        ):
            if not value <= limits[kind] * factor:
                raise SettingsError(
                    f"self-test: got {what} {value:.2g} from {other}, expected {limits[kind] * factor:g} in {name}: "
                    f"what is captured is not what this model attends to; {_OVERRIDE}"
                )
    return {
        "result": "passed",
        "row_error": worst["row"],
        "row_limit": limits["row"],
        "logprob_error": worst["logprob"],
        "logprob_limit": limits["logprob"],
        "prompt_tokens": len(items[0].prompt.ids),
        "answer_tokens": NEW_TOKENS,
    }


def _state_limit(model: Any) -> float:
    """Quantised layers round what they multiply to 8 bits, by the largest values of all that share the batch."""
    dtype = torch.bfloat16 if getattr(model, "is_quantized", False) else model.dtype
    return STATE_LIMITS[dtype]


def _attention_modules(loaded: LoadedModel) -> dict[int, torch.nn.Module]:
    """The attention module of each text layer, all of which must attend with queries and keys alone."""
    facts, seen = loaded.facts, observe(loaded.model, [0, 1, 2, 3])
    unknown = [name for name in seen.options if name not in _KNOWN]
    if unknown:
        raise SettingsError(
            f"self-test: got attention with {unknown[0]!r} in layer {seen.options[unknown[0]]}, expected "
            f"softmax(scaling * q K^T) alone; {_OVERRIDE}"
        )
    if sorted(seen.modules) != list(range(facts.layers)):
        raise SettingsError(
            f"self-test: got queries and keys of layers {sorted(seen.modules)}, expected of all {facts.layers}: the "
            "others have attention of another kind, or code that hands none of it to transformers' attention interface"
        )
    for layer, keys in seen.keys.items():
        found, expected = (keys.shape[0], keys.shape[2]), (facts.kv_heads, facts.head_dim)
        if found != expected:
            raise SettingsError(
                f"self-test: got keys of {found[0]} heads x {found[1]} in layer {layer}, expected {expected[0]} x "
                f"{expected[1]}, as its configuration says; {_OVERRIDE}"
            )
    return seen.modules


def _rows(loaded: LoadedModel, item: BatchItem, run: BatchRun, index: int) -> tuple[torch.Tensor, RowLayout]:
    """The engine's rows of one item, [row, layer, head, N + 4 (+ 1)] float32: of the answer, then of the question."""
    facts, last = loaded.facts, len(item.prompt.ids) - 1
    positions = [*range(last, last + len(run.decoded[index].ids)), *item.prompt.question]
    layout = layout_of(item, run.decoded[index].pad, positions, loaded.processor.tokenizer.bos_token_id)
    every = torch.ones(len(positions), dtype=torch.bool)
    seen = SeenRows(run.capture, run.keys, index, layout, loaded.device)
    maps = reduced_views(item.plan.views, seen, every).views[0]
    assert maps.shares is not None
    apart = [] if maps.separators is None else [maps.separators[..., None]]
    return torch.cat([maps.values, maps.shares, *apart], -1).unflatten(1, (facts.layers, facts.heads)), layout


def _compared(
    loaded: LoadedModel,
    item: BatchItem,
    run: BatchRun,
    index: int,
    modules: dict[int, torch.nn.Module],
    states: list[list[torch.Tensor]],
) -> _Found:
    """One item of the engine's run against the model's own forward of the same tokens, alone and unpadded."""
    decoded, prompt = run.decoded[index], item.prompt
    ours, layout = _rows(loaded, item, run, index)
    ids = torch.tensor([(*prompt.ids, *decoded.ids[:-1])], device=loaded.device)
    given = [torch.cat([part[index] for part in parts])[decoded.pad :] for parts in states]  # per layer [key, width]
    with eager_rows(loaded, modules, layout.positions) as rows, replaced_inputs(loaded, given) as differences:
        logits = loaded.model(
            input_ids=ids,
            **loaded.family.own_inputs(ids, moved(item.images.inputs, loaded.device, loaded.model.dtype)),
            attention_mask=torch.ones_like(ids),
            use_cache=False,
        ).logits[0, len(prompt.ids) - 1 :]
    row = max(_difference(ours[:, layer], rows[layer], layout) for layer in modules)
    spread = logits.float().log_softmax(-1).cpu()  # [answer token, vocabulary]
    given_tokens, best = torch.tensor(decoded.ids), torch.tensor([row[0] for row in decoded.top_ids])
    logprob = (spread.gather(1, given_tokens[:, None])[:, 0] - torch.tensor(decoded.logprobs)).abs().max()
    behind = (spread.max(-1).values - spread.gather(1, best[:, None])[:, 0]).max()
    return _Found(row, max(differences), number_of(logprob), number_of(behind))


def _on_static_buffers(loaded: LoadedModel, answer: Sequence[int], static: StaticDecoder) -> _Found:
    """Every bucket filled with long and short prompts, against the same tokens on the growing cache.

    Each prompt has one picture, as the buckets are made for.
    """
    row = logprob = 0.0
    sizes = trial_sizes(loaded)[:1]
    for bucket in static.buckets:
        room = bucket.length - loaded.layout(sizes).tokens - NEW_TOKENS + 1
        if room < 2:  # no prompt and answer of the test fits it
            continue
        texts = [room, min(_SHORT_TEXT, room)]
        items = [trial_item(loaded, texts[number % 2], number, sizes) for number in range(bucket.batch)]
        given = [answer] * len(items)
        run, again = generate(loaded, items, given=given), generate(loaded, items, static, given=given)
        if again.decoder != static.name:
            raise SettingsError(
                f"self-test: got no bucket for {len(items)} prompts of {len(items[0].prompt.ids)} tokens, "
                f"expected that of {bucket.batch} x {bucket.length}; set compile: false"
            )
        for index, item in enumerate(items):
            mine, theirs = _rows(loaded, item, run, index)[0], _rows(loaded, item, again, index)[0]
            row = max(row, number_of((mine - theirs).abs().max()))
            one, other = (torch.tensor(some.decoded[index].logprobs) for some in (run, again))
            logprob = max(logprob, number_of((one - other).abs().max()))
    return _Found(row, 0.0, logprob, 0.0)


def _difference(ours: torch.Tensor, theirs: torch.Tensor, layout: RowLayout) -> float:
    """The largest difference of image columns, their running sums, shares and separators; infinite where one is none.

    Args:
        ours: [row, head, N + 4], one more where there are separators.
        theirs: [head, row, key] float32, whole rows of eager attention.
        layout: where the tokens lie.
    """
    weights = theirs.transpose(0, 1)  # [row, head, key]
    first = 1 if layout.has_bos else 0
    bos, answer = weights[..., :first].sum(-1), weights[..., layout.prompt_length :].sum(-1)
    image = weights[..., list(layout.places)]
    text = weights[..., first : layout.prompt_length].sum(-1) - image.sum(-1)
    parts = [bos, image.sum(-1), text, answer]
    if len(layout.separators):
        parts.append(weights[..., layout.separators].sum(-1))
    mine, shares = (part.to(weights.device) for part in ours.split([layout.patches, len(parts)], -1))
    apart = (mine - image, mine.cumsum(-1) - image.cumsum(-1), shares - torch.stack(parts, -1))
    return max(number_of(values.abs().max()) for values in apart)
