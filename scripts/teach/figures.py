"""Turns answers and sightings into the published figures: heads chosen once, on validation, then frozen -> JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llava_eval.statistics import Share, share_of
from teach.sightings import CROP_IGNORED, READINGS, Answer, Sighting

Head = tuple[int, int]
Json = dict[str, object]
ALL = "all naming tokens"


@dataclass(frozen=True)
class Figures:
    """What is told apart in a world.

    Args:
        kinds: of questions.
        groups: of sightings, by their names; `ALL` is one of them.
        roles: a head set's role, and the group in which its head is the best one.
    """

    kinds: Sequence[str]
    groups: Mapping[str, Callable[[Sighting], bool]]
    roles: Mapping[str, str]

    def choose_heads(self, sightings: Sequence[Sighting]) -> dict[str, Head]:
        """The best head per role, by the right rows. Only ever given validation scenes: a head that is chosen again
        after a mistake in the rows hides the mistake."""
        chosen = {}
        for role, group in self.roles.items():
            rates = _head_rates(self._of_group(sightings, group))
            layer, head = np.unravel_index(rates.argmax(), rates.shape)
            chosen[role] = (int(layer), int(head))
        return chosen

    def exact_match(self, answers: Sequence[Answer]) -> Json:
        """Share of answers that equal the right one letter for letter, by kind and over all."""
        by_kind = {
            kind: [answer.right for answer in answers if answer.item.question.kind == kind] for kind in self.kinds
        }
        rows = {kind: share_of(right).as_json() for kind, right in by_kind.items() if right}
        return {"all": share_of([answer.right for answer in answers]).as_json(), **rows}

    def pointing_game(self, sightings: Sequence[Sighting], heads: Mapping[str, Head]) -> Json:
        """Per group: the frozen heads, the mean of all heads, and the spread over heads."""
        result: Json = {}
        for group in self.groups:
            seen = self._of_group(sightings, group)
            if not seen:
                continue
            rates = _head_rates(seen)
            shares = {
                role: round(float(np.mean([one.shares[head] for one in seen])), 4) for role, head in heads.items()
            }
            result[group] = {
                **{role: _head_share(seen, head, "right row").as_json() for role, head in heads.items()},
                "mean of all heads": share_of([one.mean["right row"] for one in seen]).as_json(),
                "median head": round(float(np.median(rates)), 4),
                "image share of the row": {
                    **shares,
                    "mean of all heads": round(float(np.mean([one.shares.mean() for one in seen])), 4),
                },
                "chance": {
                    "a uniform patch": round(float(np.mean([one.uniform_chance for one in seen])), 4),
                    "a random object's box": round(float(np.mean([one.object_chance for one in seen])), 4),
                },
                "every head [layer][head]": rates.round(4).tolist(),
            }
        return result

    def controls(self, sightings: Sequence[Sighting], heads: Mapping[str, Head]) -> Json:
        """What the same frozen heads score when the rows are misread; a wrong build must not pass for a right one."""
        result: Json = {}
        for role, group in self.roles.items():
            seen = self._of_group(sightings, group)
            row: Json = {reading: _head_share(seen, heads[role], reading).as_json() for reading in READINGS}
            row["a box of another scene"] = share_of([bool(one.elsewhere[heads[role]]) for one in seen]).as_json()
            wide = [one for one in seen if CROP_IGNORED in one.heads]
            if wide:
                row["images that are not square"] = {
                    reading: _head_share(wide, heads[role], reading).as_json()
                    for reading in ("right row", CROP_IGNORED)
                }
            result[f"{group}, {role}"] = row
        for group in dict.fromkeys((next(iter(self.roles.values())), ALL)):
            seen = self._of_group(sightings, group)
            result[f"{group}, mean of all heads"] = {
                reading: share_of([one.mean[reading] for one in seen]).as_json() for reading in READINGS
            }
        return result

    def _of_group(self, sightings: Sequence[Sighting], group: str) -> list[Sighting]:
        return [one for one in sightings if self.groups[group](one)]


def _head_rates(sightings: Sequence[Sighting]) -> np.ndarray:
    """[layers, heads] float64: share of sightings with the peak in a box."""
    return np.mean([one.heads["right row"] for one in sightings], axis=0)


def _head_share(sightings: Sequence[Sighting], head: Head, reading: str) -> Share:
    return share_of([bool(one.heads[reading][head]) for one in sightings])
