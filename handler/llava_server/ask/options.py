"""The options of a request: parsed, typed and checked, before any model is known.

Flow: JSON object -> `parse_options` -> frozen `Options`; what needs the model (layer counts, limits) is in plan.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llava_server.ask.checking import Pairs, choice, index_list, integer, invalid, number, pair_list
from llava_server.ask.checks import CheckSpec, parse_checks
from llava_server.ask.decoding import DecodingOptions, decoding_of, samples
from llava_server.ask.methods import DEFAULT_METHOD, check_selection, parse_method
from llava_wire.codes.quantize import PRECISIONS
from llava_wire.errors import nearest
from llava_wire.reduction import DEFAULT, NUMBERED, REDUCTIONS

KNOWN = (
    "max_new_tokens", "template", "rows", "steps", "layers", "heads", "reduction", "method", "parameters", "views",
    "precision", "format", "stream", "temperature", "top_p", "top_k", "seed", "num_beams", "length_penalty",
    "num_return_sequences", "deadline_ms", "check",
)  # fmt: skip
DECODING = (
    "max_new_tokens", "template", "temperature", "top_p", "top_k", "seed", "num_beams", "length_penalty",
    "num_return_sequences",
)  # fmt: skip
"""Options that decide the answer; a replay, whose answer is given, has none of them."""
_MAX_VIEWS = 32
_MAX_SEED = 2**63 - 1
_LOWEST_TEMPERATURE = 0.001
_SELECTION = ("layers", "heads", "reduction", "method", "parameters")
"""What a view has beside its name."""


@dataclass(frozen=True)
class ViewSpec:
    """One view as it was asked for.

    Args:
        name: unique in the request.
        layers: "all", 0-based indices, or None when not given.
        heads: "all", 0-based indices, a named head set, [layer, head] pairs (`pairs`), or None when not given.
        reduction: one of `REDUCTIONS`.
        pairs: set instead of `heads` when pairs were given.
        method: how the maps are made.
        parameters: the value of each of its parameters.
    """

    name: str
    layers: Literal["all"] | tuple[int, ...] | None = None
    heads: str | tuple[int, ...] | None = None
    reduction: str = DEFAULT
    pairs: Pairs = ()
    method: str = DEFAULT_METHOD
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options(DecodingOptions):
    """All options of a request; `views` is empty when the model's default views are wanted.

    `check` is None when those of the model's settings are wanted.
    """

    template: Literal["chat", "raw"] = "chat"
    rows: Literal["answer", "prompt", "both"] = "answer"
    steps: Literal["all"] | tuple[int, ...] = "all"
    views: tuple[ViewSpec, ...] = ()
    precision: str = "uint8"
    format: Literal["npz", "json"] | None = None
    stream: bool = False
    deadline_ms: int | None = None
    check: tuple[CheckSpec, ...] | None = None


def parse_options(given: object) -> Options:
    """Checks the options object of a request.

    Raises:
        RequestError: "invalid", naming the option, what was given and what is allowed.
    """
    if given is None:
        return Options()
    if not isinstance(given, Mapping):
        raise invalid("options", given, "a JSON object; see docs/http-api.md")
    for name in given:
        if name not in KNOWN:
            hint = nearest(name, KNOWN) if isinstance(name, str) else ""
            raise invalid(
                f"options.{name}",
                given[name],
                f"only {list(KNOWN)}{hint or '; leave it out'}",
                "an unknown option with",
            )
    values: dict[str, Any] = {}
    if "max_new_tokens" in given:
        values["max_new_tokens"] = integer(given["max_new_tokens"], "options.max_new_tokens", 1)
    for name, allowed in (
        ("template", ("chat", "raw")),
        ("rows", ("answer", "prompt", "both")),
        ("precision", PRECISIONS),
        ("format", ("npz", "json")),
    ):
        if name in given:
            values[name] = choice(given[name], f"options.{name}", allowed)
    if "steps" in given:
        steps = given["steps"]
        values["steps"] = (
            "all" if steps == "all" else tuple(sorted(index_list(steps, "options.steps", '"all" or a list')))
        )
    if "stream" in given:
        if not isinstance(given["stream"], bool):
            raise invalid("options.stream", given["stream"], "true or false")
        values["stream"] = given["stream"]
    values["views"] = _views(given)
    values.update(_sampling(given))
    values.update(_sequences(given))
    if "deadline_ms" in given:
        values["deadline_ms"] = integer(given["deadline_ms"], "options.deadline_ms", 1)
    if "check" in given:
        values["check"] = parse_checks(given["check"], "options.check")
    options = Options(**values)
    decoding_of(options).check(options, given)
    return options


def parse_view(given: object, field: str) -> ViewSpec:
    """Checks one entry of `views`: {name, layers, heads, reduction, method, parameters}; `field` names it in errors."""
    if not isinstance(given, Mapping):
        raise invalid(field, given, f"an object with name, {', '.join(_SELECTION)}")
    allowed = ("name", *_SELECTION)
    for key in given:
        if key not in allowed:
            raise invalid(
                f"{field}.{key}", given[key], f"only {list(allowed)}{nearest(str(key), allowed)}", "an unknown key with"
            )
    name = given.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 80 or not name.isprintable():
        raise invalid(f"{field}.name", name, "a printable name of 1 to 80 characters")
    return _view(given, name, field)


def _views(given: Mapping[str, Any]) -> tuple[ViewSpec, ...]:
    single = [name for name in _SELECTION if name in given]
    if "views" not in given:
        return (_view(given, "selection", "options"),) if single else ()
    if single:
        raise invalid(
            f"options.{single[0]}", given[single[0]], f"either views or {', '.join(_SELECTION)}; put it inside a view"
        )
    listed = given["views"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MAX_VIEWS:
        raise invalid("options.views", listed, f"a list of 1 to {_MAX_VIEWS} views")
    views = tuple(parse_view(view, f"options.views[{i}]") for i, view in enumerate(listed))
    names = [view.name for view in views]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise invalid(f"options.views[{i}].name", name, "each name once; rename one of them")
    return views


def _view(given: Mapping[str, Any], name: str, field: str) -> ViewSpec:
    layers: Any = None
    heads: Any = None
    pairs: Pairs = ()
    if "layers" in given:
        layers = given["layers"]
        layers = (
            "all" if layers == "all" else index_list(layers, f"{field}.layers", '"all" or a list of 0-based layers')
        )
    if "heads" in given:
        raw = given["heads"]
        if isinstance(raw, str):
            heads = raw
        elif isinstance(raw, list) and raw and all(isinstance(item, list) for item in raw):
            pairs = pair_list(raw, f"{field}.heads")
        else:
            heads = index_list(
                raw, f"{field}.heads", '"all", a list of 0-based heads, a head set, or [[layer, head], ...]'
            )
    reduction: Any = given.get("reduction", DEFAULT)
    if isinstance(reduction, int | float) and not isinstance(reduction, bool):
        # 2.0 finds what 2 finds.
        reduction = NUMBERED.get(reduction, reduction)
    reduction = choice(reduction, f"{field}.reduction", tuple(REDUCTIONS))
    paired = bool(pairs) or (isinstance(heads, str) and heads != "all")
    if layers is not None and paired:
        raise invalid(
            f"{field}.layers",
            given["layers"],
            "no layers beside a head set or pairs, which name their own; leave it out",
        )
    if not REDUCTIONS[reduction].allows(paired=paired):
        allowed = [name for name, one in REDUCTIONS.items() if one.allows(paired=True)]
        raise invalid(f"{field}.reduction", reduction, f"one of {allowed} with a head set or pairs")
    method, parameters = parse_method(given, field)
    check_selection(given, method, reduction, field)
    return ViewSpec(name, layers, heads, reduction, pairs, method, parameters)


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "temperature" in given:
        values["temperature"] = number(given["temperature"], "options.temperature", 0.0, 100.0)
        if 0 < values["temperature"] < _LOWEST_TEMPERATURE:
            # Smaller ones overflow float32 logits and leave nothing to draw from.
            raise invalid("options.temperature", given["temperature"], f"0 (greedy) or {_LOWEST_TEMPERATURE} to 100")
    if "top_p" in given:
        values["top_p"] = number(given["top_p"], "options.top_p", 0.0, 1.0)
        if values["top_p"] == 0.0:
            raise invalid("options.top_p", given["top_p"], "a number above 0, up to 1")
    if "top_k" in given:
        values["top_k"] = integer(given["top_k"], "options.top_k", 1)
    if "seed" in given:
        values["seed"] = integer(given["seed"], "options.seed", 0, _MAX_SEED)
    values["sampling"] = samples(values)
    if not values["sampling"] and ("seed" in values or values.keys() & {"top_p", "top_k"}):
        odd = next(name for name in ("seed", "top_p", "top_k") if name in values)
        raise invalid(f"options.{odd}", given[odd], "it together with a temperature above 0; add one or leave it out")
    return values


def _sequences(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("num_beams", "num_return_sequences"):
        if name in given:
            values[name] = integer(given[name], f"options.{name}", 1)
    if "length_penalty" in given:
        values["length_penalty"] = number(given["length_penalty"], "options.length_penalty", -10.0, 10.0)
    return values
