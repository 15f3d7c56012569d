"""How many bytes a request takes, before anything runs: cache, capture, prefill, maps, response.

Flow: model facts + plan -> `Extent` -> `Estimate` -> refusals (`check_response`, room.py) or the table of `make
estimate`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_doors.family import Layout, ModelFacts
from llava_server.ask.methods import DEFAULT_METHOD
from llava_server.ask.plan import Plan
from llava_server.ask.settings import Limits
from llava_server.attend.rows import scratch_bytes
from llava_server.fit.looking import looking_bytes
from llava_wire.codes.quantize import BYTES_PER_VALUE
from llava_wire.errors import RequestError
from llava_wire.reduction import reduction_of

_ROW_OVERHEAD_BYTES = 4 + 16
"""A map's scale and shares in the record."""
_TOKEN_BYTES = 700
"""A token with its five candidates in record.json, generously."""


@dataclass(frozen=True)
class Estimate:
    """Upper bounds in bytes for one request, as if the answer had max_new_tokens tokens.

    cache: keys and values; capture: stored queries; maps: reduced maps on the device; scratch: what prefill, or later
    the computing of rows, holds for a moment; response: the record; looking: what methods take beside these.
    """

    cache_bytes: int
    capture_bytes: int
    maps_bytes: int
    scratch_bytes: int
    response_bytes: int
    looking_bytes: int = 0

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
    """

    prompt_tokens: int
    patches: int
    picture_bytes: int
    new_tokens: int
    prompt_rows: int
    scored: int
    layers: frozenset[int]

    @classmethod
    def of(
        cls,
        plan: Plan,
        prompt_tokens: int,
        layout: Layout,
        picture_bytes: int,
        question_tokens: int = 0,
        *,
        given: bool = False,
    ) -> Extent:
        """The extent of one request alone.

        Args:
            plan: the resolved request.
            prompt_tokens: tokens of the prompt, image tokens included.
            layout: of its pictures.
            picture_bytes: what making their features holds at one time.
            question_tokens: prompt rows that may be captured.
            given: the answer is replayed, as that of a beam search always is.
        """
        options = plan.options
        new = options.max_new_tokens
        rows = 0 if options.rows == "answer" else question_tokens
        rows = prompt_tokens if plan.every_position else rows
        scored = new if given or options.num_beams > 1 else 0
        return cls(prompt_tokens, layout.patches, picture_bytes, new, rows, scored, plan.captured)

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
        )


def sized(plan: Plan, facts: ModelFacts, extent: Extent) -> Estimate:
    """Bounds for one request that reaches as far as `extent`, its own or that of its batch."""
    options, prompt_tokens, new = plan.options, extent.prompt_tokens, extent.new_tokens
    own_rows = options.max_new_tokens if options.steps == "all" else len(options.steps)
    rows = (0 if options.rows == "prompt" else own_rows) + (0 if options.rows == "answer" else extent.prompt_rows)
    value = facts.cache_bytes_per_value
    cache = 2 * facts.layers * facts.kv_heads * facts.head_dim * (prompt_tokens + new) * value
    capture = len(extent.layers) * facts.heads * facts.head_dim * (new + extent.prompt_rows) * value
    per_map = extent.patches * BYTES_PER_VALUE[options.precision] + _ROW_OVERHEAD_BYTES
    # The mask [prompt, prompt] comes once as bool and once as numbers.
    scored = extent.scored
    length = prompt_tokens + scored
    prefill = extent.picture_bytes + length * facts.token_bytes + length**2 * (1 + value) + scored * facts.score_bytes
    scratch = max(prefill, scratch_bytes(facts.heads, rows, prompt_tokens + new, facts.head_dim))
    maps, response = 0, new * _TOKEN_BYTES + prompt_tokens * 16 + extent.patches * 32 + 8192
    for view in plan.views:
        maps += rows * view.maps_per_query * (extent.patches + 4) * 4
        response += (1 if view.reduction.over_steps else rows * view.maps_per_query) * per_map
    # A beam search holds all of its beams; samples run side by side.
    wide, sent = max(options.num_beams, options.num_return_sequences), options.num_return_sequences
    # One sequence after another is looked at.
    looking = looking_bytes(plan.views, facts, extent)
    return Estimate(cache * wide, capture * wide, maps * wide, scratch * wide, response * sent, looking)


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


def advice(plan: Plan) -> str:
    """The option that shrinks the largest part of this request."""
    if plan.options.num_beams > 1 or plan.options.num_return_sequences > 1:
        return "set fewer beams and sequences"
    largest = max(plan.views, key=lambda view: view.maps_per_query)
    smaller = [name for name in largest.reduction.smaller if reduction_of(name).allows(paired=bool(largest.pairs))]
    if smaller:
        named = " or ".join(f'"{name}"' for name in smaller)
        return f"set reduction {named} for view {largest.name!r}, name fewer layers, or list fewer steps"
    if others := [view.method for view in plan.views if view.method != DEFAULT_METHOD]:
        return f"leave out method {others[0]!r}, set a smaller max_new_tokens, or list fewer steps"
    if plan.options.precision != "uint8":
        return 'set precision "uint8" or a smaller max_new_tokens'
    return "set a smaller max_new_tokens or list fewer steps"
