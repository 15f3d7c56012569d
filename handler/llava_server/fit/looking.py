"""How many bytes methods take beside cache, queries and maps: what their needs cost, and what they say of their own.

Flow: views with their needs + shape + reach -> upper bounds; passes that run one after another count once.
"""

from __future__ import annotations

from collections.abc import Sequence

from llava_doors.asked import Reach
from llava_doors.family import ModelFacts
from llava_doors.method import Needs
from llava_server.ask.methods import load_method
from llava_server.ask.plan import ViewPlan

_FLOAT = 4


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


def _forward(needs: Needs, facts: ModelFacts, reach: Reach) -> int:
    """One forward over prompt and answer; with gradients, what all of its layers hold."""
    once = reach.length * facts.token_bytes + reach.length**2 * (1 + facts.cache_bytes_per_value)
    if needs.gradients == "whole":
        once = facts.layers * (2 * once + facts.heads * reach.length**2 * _FLOAT)
    return once + reach.rows * facts.score_bytes


def _replay(rows: int, length: int, facts: ModelFacts) -> int:
    """The graph of some rows: constants, activations, scores and weights of all layers in float32, logits."""
    constants = 2 * facts.kv_heads * length * facts.head_dim
    weights = 4 * facts.heads * rows * length
    wide = 2 * facts.heads * length * facts.head_dim  # keys and values repeated for the heads that share them
    layer = (constants + weights + wide) * _FLOAT + 2 * rows * facts.token_bytes
    return facts.layers * layer + 2 * rows * facts.score_bytes + facts.vocabulary * facts.width * _FLOAT


def _questions(needs: Sequence[Needs], facts: ModelFacts, reach: Reach) -> int:
    """Other questions: each keeps a cache; a token stands for at least one character."""
    longest = [reach.length + len(question) for question in {text for one in needs for text in one.questions}]
    value = 2 * facts.layers * facts.kv_heads * facts.head_dim * facts.cache_bytes_per_value
    return sum(length * value for length in longest) + max(longest, default=0) * facts.token_bytes
