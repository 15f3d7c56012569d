"""How many bytes and passes methods and checks take beside cache, queries and maps: by needs, and by their own words.

Flow: views with their needs + shape + reach -> upper bounds; passes that run one after another take memory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava_doors.asked import Reach
from llava_doors.family import ModelFacts
from llava_doors.method import Needs
from llava_server.ask.checks import load_check, needs_of_check
from llava_server.ask.methods import load_method
from llava_server.ask.plan import Plan, ViewPlan

_FLOAT = 4
CHECK = "check "
"""What stands before the name of a check, which may be that of a method too."""


@dataclass(frozen=True)
class Reached:
    """How far an answer reaches; see `llava_doors.asked.Reach`."""

    length: int
    rows: int
    patches: int
    grids: Sequence[tuple[int, int]]


def passes_of(views: Sequence[ViewPlan], facts: ModelFacts, reach: Reach) -> dict[str, int]:
    """Passes over prompt and answer that methods run one after another: method -> passes in all of its views."""
    found: dict[str, int] = {}
    for view in views:
        if count := load_method(view.method).passes(view, facts, reach):
            found[view.method] = found.get(view.method, 0) + count
    return found


def looking_bytes(views: Sequence[ViewPlan], facts: ModelFacts, reach: Reach) -> int:
    """Device memory of all methods of a request at one time.

    Args:
        views: what was asked for.
        facts: the shape of the model.
        reach: how far the request reaches in its batch.
    """
    needs = [view.needs for view in views]
    own = sum(load_method(view.method).extra_bytes(view, facts, reach) for view in views)
    runs_again = any(one.hidden or one.passes or one.gradients != "none" for one in needs)
    # Embeddings and hidden states are kept; a forward comes and goes.
    kept = reach.length * facts.width * _FLOAT * (len({one for each in needs for one in each.hidden}) + runs_again)
    kept += _questions(needs, facts, reach)
    kept += sum(_replay(reach.rows, reach.length, facts) for one in needs if one.gradients == "asked")
    kept += sum(_replay(reach.length, reach.length, facts) for one in needs if one.gradients == "whole")
    passes = max((max(one.passes, 1) * _forward(one, facts, reach) for one in needs if runs_again), default=0)
    return own + kept + passes


def checking_bytes(plan: Plan, facts: ModelFacts, reach: Reach) -> tuple[int, int]:
    """Device memory of the checks of a request, which run one after another when its maps are made, and of the record.

    Args:
        plan: the request.
        facts: the shape of the model.
        reach: how far the request reaches in its batch.

    Raises:
        RequestError: "invalid", a check that refuses the request.
    """
    most, told = 0, 0
    for number, spec in enumerate(plan.checks):
        asked = plan.asked_of(spec)
        needs = needs_of_check(spec, asked, facts, reach, f"options.check[{number}]")
        check = load_check(spec.name)
        most = max(most, check.extra_bytes(asked, facts, reach) + forwards_bytes(needs, facts, reach))
        told += check.record_bytes(asked, reach)
    return most, told


def checking_passes(plan: Plan, facts: ModelFacts, reach: Reach) -> dict[str, int]:
    """Passes over prompt and answer that checks run: `CHECK` and its name -> how many at most."""
    found = {CHECK + spec.name: load_check(spec.name).passes(plan.asked_of(spec), facts, reach) for spec in plan.checks}
    return {name: count for name, count in found.items() if count}


def forwards_bytes(needs: Needs, facts: ModelFacts, reach: Reach) -> int:
    """Device memory of forwards alone: what goes in, its changed copies, and as many as run side by side."""
    whole = _replay(reach.length, reach.length, facts) if needs.gradients == "whole" else 0
    passes = max(needs.passes, 1)
    return whole + reach.length * facts.width * _FLOAT * (1 + passes) + passes * _forward(needs, facts, reach)


def _forward(needs: Needs, facts: ModelFacts, reach: Reach) -> int:
    """One forward over prompt and answer; with gradients, what all of its layers hold."""
    once = reach.length * facts.token_bytes + reach.length**2 * (1 + facts.cache_bytes_per_value)
    if needs.gradients in ("whole", "passes"):
        once = facts.layers * (2 * once + facts.heads * reach.length**2 * _FLOAT)
    scored = reach.length if facts.layers + 1 in needs.hidden else reach.rows
    return once + scored * facts.score_bytes


def _replay(rows: int, length: int, facts: ModelFacts) -> int:
    """The graph of some rows: constants, activations, scores and weights of all layers in float32, logits."""
    constants = 2 * facts.kv_heads * length * facts.head_dim
    weights = 4 * facts.heads * rows * length
    wide = 2 * facts.heads * length * facts.head_dim  # keys and values repeated for the heads that share them
    layer = (constants + weights + wide) * _FLOAT + 2 * rows * facts.token_bytes
    return facts.layers * layer + 2 * rows * facts.score_bytes + facts.vocabulary * facts.width * _FLOAT


def _questions(needs: Sequence[Needs], facts: ModelFacts, reach: Reach) -> int:
    """Other questions: each keeps a cache; a token stands for at least one byte."""
    questions = {text for one in needs for text in one.questions}
    longest = [reach.length + len(question.encode("utf-8", "replace")) for question in questions]
    value = 2 * facts.layers * facts.kv_heads * facts.head_dim * facts.cache_bytes_per_value
    return sum(length * value for length in longest) + max(
        (length * facts.token_bytes + length**2 * (1 + facts.cache_bytes_per_value) for length in longest), default=0
    )
