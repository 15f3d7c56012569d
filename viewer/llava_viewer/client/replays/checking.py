"""Checks of a record that exists: what a server is asked, and the record with what it found.

Flow: record + checks -> `asked` (of the check of patches those of the record's own maps) -> a replay -> `with_checks`,
which holds the replay's words against the record's and changes nothing but what was tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llava_wire.choose import choose_patches, ordinary_tokens
from llava_wire.findings.patches import MAX_WORDS, brightest, usual_top
from llava_wire.findings.patches import NAME as PATCHES
from llava_wire.record import Record
from llava_wire.schema import IMAGE_CHECK, TOKEN_FIGURES, Token
from llava_wire.view import View

Check = str | Mapping[str, Any]
"""A check by its name, or an object of its name and parameters."""
Own = Mapping[str, Mapping[str, Any]]
NEAR = 0.1
"""How far a token's probability may lie from the record's: rounding in half precision moves it less."""
UNSEEN: Mapping[str, Any] = {"layers": [0], "heads": [0], "steps": [0]}
"""Options of a replay whose maps nobody looks at."""


def usual_checks(record: Record) -> list[Check]:
    """What a record is tested for where nobody says: its patches, and its need of the image where it does not tell."""
    return [*([] if IMAGE_CHECK in record.facts.checks else [IMAGE_CHECK]), PATCHES]


def asked(record: Record, checks: Sequence[Check]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """What a server is asked, and what a record's check of patches says of its maps beside what the server finds.

    Args:
        record: one answer.
        checks: of the option `check`; of "patches", `view`, `steps` and `top` are those of the record's own maps.

    Raises:
        ValueError: a view or words that the record does not have.
    """
    named = [{"name": one} if isinstance(one, str) else dict(one) for one in checks]
    own: dict[str, dict[str, Any]] = {}
    for place, check in enumerate(named):
        if check.get("name") == PATCHES and "patches" not in check:
            named[place], own[PATCHES] = _own_patches(record, check)
    return named, own


def with_checks(record: Record, again: Record, named: Sequence[Mapping[str, Any]], own: Own) -> Record:
    """The record with the checks of a replay; its maps, its image and all else are as they were.

    Args:
        record: one answer.
        again: its replay with checks.
        named, own: what was asked, and what is said of the record's maps, as `asked` gives them.

    Raises:
        ValueError: the replay is of another prompt or answer, or finds its words far more or less probable.
    """
    check_same(record, again)
    checks = dict(record.facts.checks)
    for name in (str(check["name"]) for check in named):
        found = again.facts.checks.get(name, {"result": "not tested"})
        checks[name] = {**found, **(own.get(name, {}) if found.get("result") == "measured" else {})}
    tokens = tuple(_with_figures(one, other) for one, other in zip(record.tokens, again.tokens, strict=True))
    return replace(record, facts=replace(record.facts, checks=checks, tokens=tokens))


def _own_patches(record: Record, check: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The check with patches of the record's own maps, and what the record will say of them."""
    rest = {name: value for name, value in check.items() if name not in ("view", "steps", "top")}
    view = _view(record, check.get("view") or None)
    top = check.get("top") or usual_top(view.patches)
    maps = choose_patches(view)  # [query, patch]
    rows = {query.token: row for row, query in enumerate(record.queries) if query.kind == "answer"}
    steps = check.get("steps", "all")
    wanted = ordinary_tokens(record.tokens) if steps == "all" else list(steps)
    if missing := [step for step in wanted if step not in rows] if steps != "all" else []:
        raise ValueError(f"steps: got {missing[0]}, expected tokens with a map: {sorted(rows)[:40]}; leave it out")
    patches = {step: brightest(maps[rows[step]], top) for step in wanted if step in rows}
    if len(patches) > MAX_WORDS and steps != "all":
        raise ValueError(f"steps: got {len(patches)} words, expected up to {MAX_WORDS}; name fewer")
    kept = dict([(str(step), list(places)) for step, places in patches.items() if places][:MAX_WORDS])
    if not kept:
        raise ValueError(f"view: got {view.name!r} without a value above 0 for any word, expected one; name another")
    return {**rest, "patches": kept}, {"view": view.name, "top": top, "of": len(patches)}


def _view(record: Record, name: str | None) -> View:
    """The view of a name, or the first with maps for every word; first of all one with a single map for each."""
    if name is not None:
        found = record.view(name)
        if "query" in found.axes:
            return found
        raise ValueError(
            f"view: got {name!r}, one map for the whole answer, expected maps for every word; name another"
        )
    views = [view for view in record.views.values() if "query" in view.axes]
    if not views:
        raise ValueError("view: got none with maps for every word, expected one; replay the record for such a view")
    return next((view for view in views if len(view.axes) == 2), views[0])


def check_same(record: Record, again: Record) -> None:
    """Refuses a replay of another prompt or answer, or one that finds its words far more or less probable.

    Raises:
        ValueError: naming what differs.
    """
    for what, mine, other in (
        ("prompt.ids", record.facts.prompt.ids, again.facts.prompt.ids),
        ("images", record.facts.images, again.facts.images),
        ("tokens", _words(record), _words(again)),
    ):
        if mine != other:
            place = next(
                (i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other))
            )
            raise ValueError(
                f"{what}: got a replay that differs from the record at {place}, expected the same; ask the model that "
                "answered, with the image that was asked about"
            )
    for step, (mine_token, other_token) in enumerate(zip(record.tokens, again.tokens, strict=True)):
        p, q = math.exp(min(0.0, mine_token.logprob)), math.exp(min(0.0, other_token.logprob))
        if abs(p - q) > NEAR:
            raise ValueError(
                f"tokens[{step}]: got a replay with probability {q:.3f}, expected about the record's {p:.3f}; ask the "
                "model that answered, in its precision"
            )


def _words(record: Record) -> list[tuple[int, str, str]]:
    return [(token.id, token.piece, token.text) for token in record.tokens]


def _with_figures(mine: Token, other: Token) -> Token:
    found = {name: getattr(other, name) for name in TOKEN_FIGURES}
    return replace(mine, **{name: value for name, value in found.items() if value is not None})
