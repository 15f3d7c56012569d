"""Which views of two runs are held against each other: those of one name, those named as a pair, and the last two.

Flow: two tallies, pairs of names -> `paired`: tallies under the keys of both, and the views that one run alone has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from llava_eval.tally import Tally
from llava_viewer.evaluation.scores import EVEN, Key
from llava_viewer.store.part import StoreError


class Paired(NamedTuple):
    """Two tallies with keys in common.

    Args:
        one, other: theirs, by keys whose view and method name both runs' where they are not the same.
        here, there: views that only one run has, so that nothing is said of them.
    """

    one: Tally[Key]
    other: Tally[Key]
    here: tuple[str, ...]
    there: tuple[str, ...]


def paired(one: Tally[Key], other: Tally[Key], named: Mapping[str, str]) -> Paired:
    """Finds out which views belong together.

    Args:
        one, other: scores of both runs.
        named: a view of the first run -> that of the other one which it is held against.

    Raises:
        StoreError: a run has no view of a name.
    """
    methods, their_methods = _methods(one), _methods(other)
    for view, their_view in named.items():
        for name, views, whose in ((view, methods, "this run"), (their_view, their_methods, "the other run")):
            if name not in views:
                raise StoreError(
                    f"--pair: got {view}={their_view}, but {whose} has no view {name!r:.80}, expected one of "
                    f"{', '.join(views) or 'none'}; name it"
                )
    pairs = {**{view: view for view in methods if view in their_methods and view not in named}, **named}
    here = [view for view in methods if view not in pairs]
    there = [view for view in their_methods if view not in pairs.values()]
    if len(here) == len(there) == 1:  # nothing else can be meant
        pairs[here.pop()] = there.pop()
    labels = {
        view: (_both(view, their_view), _both(methods[view], their_methods[their_view]))
        for view, their_view in pairs.items()
    }

    def under(key: Key, view: str) -> Key:
        name, method = labels[view]
        return key._replace(view=name, method=method if key.method else "")

    def own(key: Key) -> Key | None:
        return key if not key.view else under(key, key.view) if key.view in pairs else None

    def of_pair(view: str, their_view: str, key: Key) -> Key | None:
        return under(key, view) if key.view == their_view else None

    # A view may be held against several of the first run's, so that each pair has its own copy of the other's scores.
    theirs: Tally[Key] = Tally()
    theirs.join(other.renamed(lambda key: None if key.view else key))
    for view, their_view in pairs.items():
        theirs.join(other.renamed(partial(of_pair, view, their_view)))
    return Paired(one.renamed(own), theirs, tuple(here), tuple(there))


def _methods(tally: Tally[Key]) -> dict[str, str]:
    """Each view's method, chance's aside; "" of one whose shares alone are known."""
    found: dict[str, str] = {}
    for key in tally:
        if key.view and key.view != EVEN:
            found[key.view] = found.get(key.view) or key.method
    return found


def _both(here: str, there: str) -> str:
    return here if here == there else f"{here or '–'} / {there or '–'}"
