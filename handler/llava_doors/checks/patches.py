"""These patches: what becomes of a word when its map's brightest patches alone are shown, or they are hidden.

Flow: a view's finished maps, or patches that the request names -> sets of patches, and random ones of as many -> log
probabilities, everything else being the mean embedding -> each word with its patches, beside what random ones do.

On known truth the patches of a word's object alone keep it; random ones do not. Hiding patches misleads where
the evidence is there twice: a word that stays as it was does not mean that they went unused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from llava_doors.asked import Reach, Shape
from llava_doors.check import Answer, AskedCheck, AskedView, Check, Finding
from llava_doors.door import Declaration, DoorError, Parameter
from llava_doors.method import SIDE_BY_SIDE, Needs, Seen
from llava_wire.choose import choose_patches, ordinary_tokens
from llava_wire.findings.patches import MAX_WORDS, NAME, PatchCheck, WordPatches, brightest, usual_top

DECLARATION = Declaration(
    name=NAME,
    summary="Each word with its map's brightest patches alone, and with them hidden, beside random patches.",
    implementation="llava_doors.checks.patches:Patches",
    parameters=(
        Parameter("steps", "steps", "all", "Which words, as tokens of the answer from 0; all but special ones."),
        Parameter("view", "text", "", "Whose maps; the first with one map for each word."),
        Parameter("top", "integer", 0, "How many patches; a sixteenth of them (4 of 64) where it is 0.", above=-1),
        Parameter("sets", "integer", 16, "Random sets.", above=0, up_to=256),
        Parameter("seed", "integer", 0, "Of the random sets.", above=-1, up_to=2**53),
        Parameter("patches", "lists", {}, "Patches of your own for each word, by token, in place of a view's."),
    ),
)
_OWN = ("steps", "view", "top")
"""What has no meaning beside patches of one's own."""
_WORD_CHARS = 160
"""Eight numbers, a token and their commas."""
Words = Mapping[int, tuple[int, ...]]
"""Token -> the patches that are tested, ascending."""


class Patches(Check):
    """Two sets for each word and two for each random one, as many side by side as it declares."""

    def needs(self, asked: AskedCheck, facts: Shape, reach: Reach) -> Needs:
        """See `Check`."""
        given = asked.parameters
        if own := given["patches"]:
            for name in _OWN:
                if given[name] != next(one.default for one in DECLARATION.parameters if one.name == name):
                    raise DoorError(f"parameters.{name}: got it beside patches, expected one of them; leave one out")
            _check_own(own, reach.patches)
        else:
            _check_steps(given["steps"], asked.steps, _view_of(asked).name)
            if given["top"] > reach.patches:
                raise DoorError(f"parameters.top: got {given['top']}, expected up to {reach.patches}, all patches")
        return Needs(rows="none", passes=SIDE_BY_SIDE)

    def passes(self, asked: AskedCheck, facts: Shape, reach: Reach) -> int:
        """See `Check`: each word has patches of its own at most, and random sets are of so many sizes."""
        given, own = asked.parameters, asked.parameters["patches"]
        named = reach.rows if given["steps"] == "all" else len(given["steps"])
        words = len(own) or min(MAX_WORDS, named)
        # A map with few values above 0 names fewer patches than were asked for.
        sizes = len({len(places) for places in own.values()}) or min(words, given["top"] or usual_top(reach.patches))
        return 2 * (words + sizes * int(given["sets"]))

    def record_bytes(self, asked: AskedCheck, reach: Reach) -> int:
        """See `Check`: of each word its numbers and the numbers of its patches."""
        own = asked.parameters["patches"].values()
        longest = max(map(len, own), default=asked.parameters["top"] or usual_top(reach.patches))
        return 1024 + min(MAX_WORDS, reach.rows) * (_WORD_CHARS + (len(str(reach.patches)) + 1) * longest)

    def test(self, seen: Seen, answer: Answer, asked: AskedCheck) -> Finding:
        """See `Check`; a map without a value above 0 names no patches, and its word is left out."""
        given = asked.parameters
        view = "" if given["patches"] else _view_of(asked).name
        top = 0 if given["patches"] else given["top"] or usual_top(seen.layout.patches)
        wanted = given["patches"] or _named_by(view, top, answer, given["steps"])
        late = _after_the_end(given, len(answer.tokens))
        words = dict([(t, places) for t, places in sorted(wanted.items()) if places and t not in late][:MAX_WORDS])
        if not words and late:
            last, named = len(answer.tokens) - 1, ", ".join(map(str, late[:8]))
            return Finding(reason=f"the answer ended at step {last}, before the words asked for ({named})")
        if not words:
            return Finding(reason="no word has a map with a value above 0")
        tested = _tested(seen, words, given["sets"], given["seed"])
        if not all(math.isfinite(word.alone + word.hidden + word.random_alone) for word in tested):
            return Finding(reason="probabilities with some patches are not finite")
        return Finding(PatchCheck(view, top, given["sets"], given["seed"], len({*wanted, *late}), tested).to_plain())


def _view_of(asked: AskedCheck) -> AskedView:
    """The view whose maps are asked for.

    Raises:
        DoorError: there is none of this name, or none with one map for each word.
    """
    name, views = asked.parameters["view"], [view for view in asked.views if view.has_rows]
    if asked.steps == ():
        raise DoorError("parameters.view: got no rows of the answer, expected some; set rows to answer or both")
    if name:
        found = next((view for view in views if view.name == name), None)
        if found is None:
            raise DoorError(
                f"parameters.view: got {name!r:.80}, expected "
                + (
                    f"one of {[view.name for view in views]}, which have maps for every word"
                    if views
                    else "a view with maps for every word; ask for reduction layers_heads"
                )
            )
        return found
    found = next((view for view in views if view.maps == 1), None)
    if found is None:
        several = f", or name one of {[view.name for view in views]}, the mean of whose maps is taken then"
        raise DoorError(
            "parameters.view: got no view with one map for each word, expected one; ask for reduction layers_heads"
            + (several if views else "")
        )
    return found


def _check_own(own: Words, patches: int) -> None:
    """Refuses patches that are not there, and more words than a record holds."""
    if len(own) > MAX_WORDS:
        raise DoorError(f"parameters.patches: got {len(own)} words, expected up to {MAX_WORDS}; ask twice")
    for token, places in own.items():
        if places[-1] >= patches:
            raise DoorError(f"parameters.patches.{token}: got patch {places[-1]}, expected 0 to {patches - 1}")


def _check_steps(steps: object, shown: object, view: str) -> None:
    """Refuses words that will have no map, and more of them than a record holds."""
    if not isinstance(steps, tuple):
        return
    if len(steps) > MAX_WORDS:
        raise DoorError(f"parameters.steps: got {len(steps)} words, expected up to {MAX_WORDS}; name fewer")
    if isinstance(shown, tuple) and (missing := sorted({*steps} - {*shown})):
        raise DoorError(
            f"parameters.steps: got {missing[0]}, expected steps of which view {view!r} has maps; add it to the "
            "request's steps, or leave it out"
        )


def _named_by(view: str, top: int, answer: Answer, steps: object) -> dict[int, tuple[int, ...]]:
    """Token -> the brightest patches of its map as the record holds it, of several maps of their mean."""
    maps = choose_patches(answer.views[view])  # [query, patch]
    rows = {query.token: row for row, query in enumerate(answer.queries) if query.kind == "answer"}
    tokens = ordinary_tokens(answer.tokens) if steps == "all" else steps
    assert isinstance(tokens, list | tuple)
    return {token: brightest(maps[rows[token]], top) for token in tokens if token in rows}


def _after_the_end(given: Mapping[str, Any], tokens: int) -> list[int]:
    """The words that were named and that the answer does not reach: it ended before them."""
    named = given["patches"] or (() if given["steps"] == "all" else given["steps"])
    return sorted(token for token in named if token >= tokens)


def _tested(seen: Seen, words: Words, sets: int, seed: int) -> tuple[WordPatches, ...]:
    """Every word with its patches and with random ones; equal sets are asked once, random ones shared by the words."""
    import torch

    patches = seen.layout.patches
    orders = [np.random.default_rng([seed, number]).permutation(patches) for number in range(sets)]
    sizes = sorted({len(word) for word in words.values()})
    random = {size: [tuple(sorted(order[:size].tolist())) for order in orders] for size in sizes}
    distinct = dict.fromkeys([*words.values(), *(one for each in random.values() for one in each)])
    places = {one: number for number, one in enumerate(distinct)}
    alone = torch.zeros((len(places), patches), dtype=torch.bool)
    for one, place in places.items():
        alone[place, list(one)] = True
    found = seen.log_probs(torch.cat([alone, ~alone]))  # [set, token]
    p = found.double().exp().clamp(max=1.0).numpy(force=True).reshape(2, len(places), -1)  # [way, set, token]
    tested = []
    for token, word in words.items():
        beside = p[:, [places[one] for one in random[len(word)]], token]  # [way, random set]
        spread = [float(take(one)) for one in beside for take in (np.mean, np.min, np.max)]
        tested.append(WordPatches(token, word, *map(float, p[:, places[word], token]), *spread))
    return tuple(tested)
