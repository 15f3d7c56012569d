"""How many bytes a request takes, before anything runs: cache, capture, prefill, maps, response.

Flow: model facts + plan -> `Extent` -> `Estimate` -> refusals (`check_response`, room.py) or the table of `make
estimate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llava_doors.family import Layout, ModelFacts
from llava_doors.method import Needs
from llava_doors.parts.row_means import SPLIT
from llava_server.ask.checks import DEFAULT_CHECKS
from llava_server.ask.methods import DEFAULT_METHOD, quantity_of
from llava_server.ask.plan import Plan
from llava_server.ask.settings import Limits
from llava_server.attend.rows import scratch_bytes
from llava_server.fit.looking import (
    CHECK,
    Reached,
    checking_bytes,
    checking_passes,
    forwards_bytes,
    looking_bytes,
    passes_of,
)
from llava_wire.codes.quantize import map_bytes
from llava_wire.errors import RequestError
from llava_wire.limits import MAX_PARTS
from llava_wire.reduction import reduction_of

_SCALE_BYTES, _NUMBER_BYTES = 4, 4
"""A map's scale, and each of its shares or parts in the record."""
_TEXT_BYTES = 4096
"""What record.json says of a view of text."""
_TOKEN_BYTES = 700
"""A token with its five candidates in record.json, generously."""


@dataclass(frozen=True)
class Estimate:
    """Upper bounds in bytes for one request, as if the answer had max_new_tokens tokens.

    cache: keys and values; capture: stored queries; maps: reduced maps on the device; scratch: what prefill, or later
    the computing of rows, holds for a moment; response: the record; looking: what methods take beside these; passes:
    how often each method runs over prompt and answer.
    """

    cache_bytes: int
    capture_bytes: int
    maps_bytes: int
    scratch_bytes: int
    response_bytes: int
    looking_bytes: int = 0
    passes: Mapping[str, int] = field(default_factory=dict)

    @property
    def device_bytes(self) -> int:
        """What the request takes on the device beside the weights."""
        return self.cache_bytes + self.capture_bytes + self.maps_bytes + self.scratch_bytes + self.looking_bytes


@dataclass(frozen=True)
class Extent:
    """How far a request reaches in a batch; the batch pads each of its requests to the largest extent of any.

    Args:
        prompt_tokens: tokens of the prompt, image tokens included.
        patches: of all grids of its pictures.
        picture_bytes: what making the features of its pictures holds at one time.
        new_tokens: tokens that the answer may have.
        prompt_rows: prompt rows that are captured besides the last; all of the prompt's where a method reads them.
        scored: tokens of a given answer that one prefill also scores.
        layers: the layers that are captured.
        grids: rows and columns of each grid.
    """

    prompt_tokens: int
    patches: int
    picture_bytes: int
    new_tokens: int
    prompt_rows: int
    scored: int
    layers: frozenset[int]
    grids: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls,
        plan: Plan,
        prompt_tokens: int,
        layout: Layout,
        picture_bytes: int,
        question_tokens: int = 0,
    ) -> Extent:
        """The extent of one request alone.

        Args:
            plan: the resolved request.
            prompt_tokens: tokens of the prompt, image tokens included.
            layout: of its pictures.
            picture_bytes: what making their features holds at one time.
            question_tokens: prompt rows that may be captured.
        """
        options = plan.options
        new = options.max_new_tokens
        rows = 0 if options.rows == "answer" else question_tokens
        rows = prompt_tokens if plan.every_position else rows
        scored = new if plan.decoding.replayed else 0
        grids = tuple((grid.rows, grid.cols) for grid in layout.grids)
        return cls(prompt_tokens, layout.patches, picture_bytes, new, rows, scored, plan.captured, grids)

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.new_tokens

    @property
    def rows(self) -> int:
        """Rows that are shown, at most."""
        return self.new_tokens + self.prompt_rows

    def joined(self, other: Extent) -> Extent:
        """The extent that a batch of both pads each of them to."""
        return Extent(
            max(self.prompt_tokens, other.prompt_tokens),
            max(self.patches, other.patches),
            max(self.picture_bytes, other.picture_bytes),
            max(self.new_tokens, other.new_tokens),
            max(self.prompt_rows, other.prompt_rows),
            max(self.scored, other.scored),
            self.layers | other.layers,
            max(self, other, key=lambda extent: extent.patches).grids,
        )


def sized(plan: Plan, facts: ModelFacts, extent: Extent, further: Needs | None = None) -> Estimate:
    """Bounds for one request that reaches as far as `extent`, its own or that of its batch.

    Args:
        plan: the request.
        facts: the shape of the model.
        extent: how far it reaches.
        further: what is asked of the answer in place of its checks.

    Raises:
        RequestError: "invalid", a check that refuses the request.
    """
    options, prompt_tokens, new = plan.options, extent.prompt_tokens, extent.new_tokens
    own_rows = options.max_new_tokens if options.steps == "all" else len(options.steps)
    rows = (0 if options.rows == "prompt" else own_rows) + (0 if options.rows == "answer" else extent.prompt_rows)
    value = facts.cache_bytes_per_value
    cache = 2 * facts.layers * facts.kv_heads * facts.head_dim * (prompt_tokens + new) * value
    capture = len(extent.layers) * facts.heads * facts.head_dim * (new + extent.prompt_rows) * value
    per_map = _map_bytes(options.precision, extent) + _SCALE_BYTES
    # The mask [prompt, prompt] comes once as bool and once as numbers.
    scored = extent.scored
    length = prompt_tokens + scored
    prefill = extent.picture_bytes + length * facts.token_bytes + length**2 * (1 + value) + scored * facts.score_bytes
    scratch = max(prefill, scratch_bytes(facts.heads, rows, prompt_tokens + new, facts.head_dim))
    maps, response = 0, new * _TOKEN_BYTES + prompt_tokens * 16 + extent.patches * 32 + 8192
    for view in plan.views:
        if view.is_text:
            maps += rows * extent.length * 4
            response += rows * extent.length * 4 + _TEXT_BYTES
            continue
        split = SPLIT if quantity_of(view.method, view.parameters).is_share else MAX_PARTS
        maps += rows * view.maps_per_query * (extent.patches + split) * 4
        response += (1 if view.reduction.over_steps else rows * view.maps_per_query) * (per_map + split * _NUMBER_BYTES)
    wide, sent = plan.decoding.held(options), options.num_return_sequences
    # One sequence after another is looked at, then checked, when what prefill and rows held is free again.
    checking, told = checking_bytes(plan, facts, extent)
    if further is not None:
        checking = forwards_bytes(further, facts, extent)
    looking = max(looking_bytes(plan.views, facts, extent), checking - scratch * wide)
    passes = passes_of(plan.views, facts, Reached(extent.length, rows, extent.patches, extent.grids))
    passes |= checking_passes(plan, facts, extent)
    return Estimate(
        cache * wide, capture * wide, maps * wide, scratch * wide, (response + told) * sent, looking,
        {name: count * sent for name, count in passes.items()},
    )  # fmt: skip


def _map_bytes(precision: str, extent: Extent) -> int:
    """What a map takes in the record.

    Raises:
        RequestError: "invalid", a grid that the precision does not hold.
    """
    try:
        return map_bytes(precision, extent.grids)
    except ValueError as error:
        raise RequestError("invalid", "options.precision", str(error).removeprefix("precision: ")) from error


def response_limit(plan: Plan, limits: Limits) -> int:
    """The largest record in bytes that the response limit leaves; JSON carries it base64-encoded."""
    json_form = plan.options.format != "npz"
    return limits.max_response_bytes * 3 // 4 - (1 << 16) if json_form else limits.max_response_bytes


def check_response(needed: Estimate, plan: Plan, limits: Limits) -> None:
    """Refuses a request whose record would be too large.

    Raises:
        RequestError: "does_not_fit", with both numbers and the option that would make it fit.
    """
    allowed = response_limit(plan, limits)
    if needed.response_bytes > allowed:
        raise RequestError(
            "does_not_fit",
            "options",
            f"got up to {needed.response_bytes} bytes of response, expected {allowed}; {advice(plan)}",
        )


def check_passes(needed: Estimate, limits: Limits) -> None:
    """Refuses a request whose methods and checks would run over prompt and answer too often.

    Raises:
        RequestError: "does_not_fit", with both numbers and what would make it fit.
    """
    if (total := sum(needed.passes.values())) > limits.max_passes:
        largest = max(needed.passes, key=lambda name: needed.passes[name])
        is_check = largest.startswith(CHECK)
        raise RequestError(
            "does_not_fit",
            "options.check" if is_check else "options.method",
            f"got up to {total} passes over prompt and answer, expected {limits.max_passes}; list fewer steps, set a "
            f"smaller max_new_tokens, or ask {largest.removeprefix(CHECK)!r} for less by its parameters",
        )


def advice(plan: Plan) -> str:
    """The option that shrinks the largest part of this request."""
    if plan.decoding.held(plan.options) > 1:
        return "set fewer beams and sequences"
    largest = max((view for view in plan.views if not view.is_text), key=lambda view: view.maps_per_query)
    smaller = [name for name in largest.reduction.smaller if reduction_of(name).allows(paired=bool(largest.pairs))]
    if smaller:
        named = " or ".join(f'"{name}"' for name in smaller)
        return f"set reduction {named} for view {largest.name!r}, name fewer layers, or list fewer steps"
    if further := [spec.name for spec in plan.checks if spec not in DEFAULT_CHECKS]:
        return f"leave out check {further[-1]!r}, or set a smaller max_new_tokens"
    if others := [view.method for view in plan.views if view.method != DEFAULT_METHOD]:
        return f"leave out method {others[0]!r}, set a smaller max_new_tokens, or list fewer steps"
    if plan.options.precision != "uint8":
        return 'set precision "uint8" or a smaller max_new_tokens'
    return "set a smaller max_new_tokens or list fewer steps"
