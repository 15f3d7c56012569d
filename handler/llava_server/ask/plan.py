"""A request meets a model: every layer, head and limit resolved to numbers.

Flow: `Options` + `ModelFacts` + `ModelSettings` -> `Plan`, or a `RequestError` that names the field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llava_doors.check import AskedCheck, AskedView
from llava_doors.family import ModelFacts
from llava_doors.method import ATTENTION_ROWS, Needs
from llava_server.ask.checking import invalid
from llava_server.ask.checks import CheckSpec
from llava_server.ask.decoding import GREEDY, Decoding, decoding_of
from llava_server.ask.methods import DEFAULT_METHOD, declared, needs_of, quantity_of
from llava_server.ask.options import Options, ViewSpec
from llava_server.ask.settings import ModelSettings
from llava_wire.codes.quantize import written
from llava_wire.errors import RequestError, nearest
from llava_wire.reduction import DEFAULT, Reduction, reduction_of


@dataclass(frozen=True)
class ViewPlan:
    """One view with its selection in numbers.

    Args:
        layers, heads: the grid, or both empty and
        pairs: the (layer, head) list.
        head_set: the name that `pairs` came from, or "".
        method, parameters: how the maps are made.
        needs: what the method needs of the run.
        field: what errors call it.
    """

    name: str
    reduction: Reduction
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    head_set: str = ""
    method: str = DEFAULT_METHOD
    parameters: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = ATTENTION_ROWS
    field: str = "options"

    @property
    def is_text(self) -> bool:
        """Whether its columns are tokens and no patches."""
        return declared(self.method).is_of_text

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of this view's maps."""
        return self.reduction.axes(paired=bool(self.pairs))

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Lengths of the axes between "query" and "patch"."""
        return self.reduction.shape(self.layers, self.heads, self.pairs)

    @property
    def maps_per_query(self) -> int:
        """Maps that one query contributes to the record."""
        return math.prod(self.kept_shape)

    @property
    def slots(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The (layer, head) cells that each map of a query averages."""
        return self.reduction.slots(self.layers, self.heads, self.pairs)

    @property
    def cells(self) -> dict[int, tuple[int, ...]]:
        """The heads that this view reads in each layer."""
        if not self.pairs:
            return dict.fromkeys(self.layers, self.heads)
        by_layer: dict[int, tuple[int, ...]] = {}
        for layer, head in self.pairs:
            by_layer[layer] = (*by_layer.get(layer, ()), head)
        return by_layer


@dataclass(frozen=True)
class Plan:
    """Everything a batch needs to know about one request's capture, decoding and checks; `layers` are the model's."""

    options: Options
    views: tuple[ViewPlan, ...]
    deadline_ms: int
    layers: int = 0
    checks: tuple[CheckSpec, ...] = ()
    decoding: Decoding = GREEDY

    @property
    def captured(self) -> frozenset[int]:
        """The layers whose queries, and what they could see, are kept."""
        layers = {layer for view in self.views if view.needs.rows != "none" for layer in view.cells}
        if any(view.needs.gradients == "asked" for view in self.views):
            layers.update(range(self.layers))
        return frozenset(layers)

    def asked_of(self, check: CheckSpec) -> AskedCheck:
        """What a check is told of this request."""
        views = [
            AskedView(view.name, not view.reduction.over_steps, math.prod(view.kept_shape))
            for view in self.views
            if not view.is_text
        ]
        steps = () if self.options.rows == "prompt" else self.options.steps
        return AskedCheck(check.parameters, tuple(views), steps)

    @property
    def every_position(self) -> bool:
        """Whether the queries of all positions are kept."""
        return any(view.needs.rows == "every" for view in self.views)

    @property
    def keeps_values(self) -> bool:
        """Whether the cached values are kept until the maps are made."""
        return any(view.needs.values or view.needs.gradients == "asked" for view in self.views)

    @property
    def forwards(self) -> bool:
        """Whether prompt and answer run again in one forward."""
        wanted = (view.needs for view in self.views)
        return any(needs.hidden or needs.passes or needs.gradients != "none" for needs in wanted)


def cells_of(views: Iterable[ViewPlan]) -> dict[int, tuple[int, ...]]:
    """The heads that any of the views reads in each layer: layer -> heads, ascending."""
    union: dict[int, set[int]] = {}
    for view in views:
        for layer, heads in view.cells.items():
            union.setdefault(layer, set()).update(heads)
    return {layer: tuple(sorted(heads)) for layer, heads in sorted(union.items())}


def make_plan(options: Options, facts: ModelFacts, settings: ModelSettings, *, given: bool = False) -> Plan:
    """Resolves options against a model.

    Args:
        options: what was asked.
        facts, settings: the model.
        given: the answer is a record's.

    Raises:
        RequestError: "invalid", for layers, heads, head sets or limits that the model does not have.
    """
    limit = settings.limits.max_new_tokens
    if options.max_new_tokens > limit:
        raise invalid("options.max_new_tokens", options.max_new_tokens, f"1 to {limit} for {settings.name}")
    for name in ("num_beams", "num_return_sequences"):
        most = settings.limits.max_sequences
        if getattr(options, name) > most:
            raise invalid(f"options.{name}", getattr(options, name), f"1 to {most} for {settings.name}")
    if options.steps != "all" and options.steps[-1] >= options.max_new_tokens:
        many = options.max_new_tokens
        allowed = (
            f"0 to {many - 1}, the steps of the answer that is given; leave it out"
            if given
            else f"0-based steps below max_new_tokens ({many}); raise max_new_tokens or drop it"
        )
        raise invalid("options.steps", options.steps[-1], allowed)
    ceiling = settings.limits.deadline_ms
    if options.deadline_ms is not None and options.deadline_ms > ceiling:
        raise invalid("options.deadline_ms", options.deadline_ms, f"1 to {ceiling} for {settings.name}")
    specs = _with_maps(options.views, settings)
    views = []
    for index, spec in enumerate(specs):
        field = "options" if spec.name == "selection" and len(options.views) == 1 else f"options.views[{index}]"
        if options.rows == "prompt" and reduction_of(spec.reduction).over_steps:
            raise invalid(
                f"{field}.reduction", spec.reduction, 'a mean over answer steps only with rows "answer" or "both"'
            )
        view = _resolve(spec, facts, settings, field)
        try:
            written(options.precision, quantity_of(view.method, view.parameters))
        except ValueError as error:
            told = str(error).removeprefix("precision: ")
            of = f"{told} (view {view.name!r}, method {view.method!r})"
            raise RequestError("invalid", "options.precision", of) from error
        views.append(replace(view, needs=needs_of(view, view.method, facts), field=field))
    decoding = decoding_of(options, given=given)
    if options.stream:
        _check_stream(options, decoding, specs)
    checks = settings.check if options.check is None else options.check
    return Plan(options, tuple(views), options.deadline_ms or ceiling, facts.layers, checks, decoding)


def _with_maps(asked: Sequence[ViewSpec], settings: ModelSettings) -> Sequence[ViewSpec]:
    """The views of a request; a record has maps, so views of text alone get the model's default views beside them.

    Raises:
        RequestError: "invalid", for a view of text that is called as one of those.
    """
    defaults = settings.default_views
    if not asked or any(not declared(spec.method).is_of_text for spec in asked):
        return asked or defaults
    taken = [spec.name for spec in defaults]
    for index, spec in enumerate(asked):
        if spec.name in taken:
            allowed = f"a name other than {taken}, the default views, which come beside views of text; rename it"
            raise invalid(f"options.views[{index}].name", spec.name, allowed)
    return (*asked, *defaults)


def _check_stream(options: Options, decoding: Decoding, specs: Sequence[ViewSpec]) -> None:
    """A stream shows each token's maps as it is produced; what exists only afterwards cannot be part of it."""
    for spec in specs:
        if reduction_of(spec.reduction).over_steps:
            allowed = f'false with reduction "{spec.reduction}", which is known only at the end; choose "{DEFAULT}"'
            raise invalid("options.stream", True, allowed)
        if not declared(spec.method).traits.get("streams", False):
            allowed = f"false with method {spec.method!r}, whose maps are known only when the answer is finished"
            raise invalid("options.stream", True, allowed)
    if allowed := decoding.no_stream(options):
        raise invalid("options.stream", True, allowed)


def _resolve(spec: ViewSpec, facts: ModelFacts, settings: ModelSettings, field: str) -> ViewPlan:
    layers, heads, pairs, head_set = spec.layers, spec.heads, spec.pairs, ""
    reduction = reduction_of(spec.reduction)
    if not declared(spec.method).traits.get("heads", True):
        layers = heads = "all"
    elif layers is None and heads is None and not pairs:
        # Only a reduction was named: it applies to the selection that the model shows first.
        first = settings.default_views[0]
        layers, heads, pairs = first.layers, first.heads, first.pairs
        paired = bool(pairs) or (isinstance(heads, str) and heads != "all")
        if not reduction.allows(paired=paired):
            raise invalid(
                f"{field}.reduction", spec.reduction, "it with layers and heads; the model's default view is a head set"
            )
    if isinstance(heads, str) and heads != "all":
        if heads not in settings.head_sets:
            known = ["all", *settings.head_sets]
            raise invalid(f"{field}.heads", heads, f"one of {known} or a list{nearest(heads, known)}")
        head_set, pairs = heads, settings.head_sets[heads]
    if pairs:
        for i, (layer, head) in enumerate(pairs):
            _check(layer, facts.layers, "layer", f"{field}.heads[{i}][0]", settings)
            _check(head, facts.heads, "head", f"{field}.heads[{i}][1]", settings)
        return ViewPlan(spec.name, reduction, (), (), pairs, head_set, spec.method, spec.parameters)
    return ViewPlan(
        spec.name,
        reduction,
        _expand(layers, facts.layers, "layer", f"{field}.layers", settings),
        _expand(heads if not isinstance(heads, str) else "all", facts.heads, "head", f"{field}.heads", settings),
        method=spec.method,
        parameters=spec.parameters,
    )


def _expand(
    given: str | tuple[int, ...] | None, count: int, what: str, field: str, settings: ModelSettings
) -> tuple[int, ...]:
    if given is None or isinstance(given, str):
        return tuple(range(count))
    for i, index in enumerate(given):
        _check(index, count, what, f"{field}[{i}]", settings)
    return given


def _check(index: int, count: int, what: str, field: str, settings: ModelSettings) -> None:
    if index >= count:
        raise RequestError(
            "invalid",
            field,
            f"got {index}, expected 0 to {count - 1}: {settings.name} has {count} {what}s, counted from 0",
        )
