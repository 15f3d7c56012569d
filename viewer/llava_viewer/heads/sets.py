"""Named sets of heads in a file: written by a search, read where views choose heads.

Flow: `Findings` -> `document` -> heads.json -> `read_set` -> the [layer, head] pairs of one name, and whose they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_eval.ranking import RULE, Head, Ranking
from llava_viewer.heads.findings import Findings, Table
from llava_wire.container import read_file
from llava_wire.errors import nearest
from llava_wire.plain import to_plain

FORMAT, VERSION = "llava-gaze-heads", 1
_MOST_HEADS = 4096


class SetsError(ValueError):
    """A file that holds no sets of heads, or not the one that was named."""


@dataclass(frozen=True)
class HeadSet:
    """One set of a file.

    Args:
        name: of the set.
        heads: best first.
        model, revision: whose heads they are.
    """

    name: str
    heads: tuple[Head, ...]
    model: str
    revision: str


def set_name(table: Table, *, role: bool = False) -> str:
    """What the set of a table is called."""
    return table.kind if role else f"{table.kind}-{table.criterion}"


def document(findings: Findings, top: int | None = None) -> dict[str, Any]:
    """All that a search found, as plain values.

    Args:
        findings: of the search.
        top: how many heads each set has; None where they follow the rule.
    """
    rule = RULE if top is None else f"the {top} heads of the highest scores"
    sets = [_set(findings, table, rule) for table in findings.tables]
    cover = "the head that serves these words best, of the fewest heads that serve all words between them"
    sets += [_set(findings, table, cover, role=True) for table in findings.roles]
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": to_plain(findings.model),
        "data": {
            "questions": findings.questions,
            "images": findings.images,
            "words": findings.words,
            "needing_the_image": findings.needing,
        },
        "sets": sets,
        "scores": [
            {"kind": table.kind, "criterion": table.criterion, **_numbers(table.ranking)} for table in findings.tables
        ],
        "notes": list(findings.notes),
    }


def _set(findings: Findings, table: Table, rule: str, *, role: bool = False) -> dict[str, Any]:
    ranking = table.ranking
    found = {
        "name": set_name(table, role=role),
        "heads": [list(head) for head in ranking.chosen],
        "role": table.kind,
        "criterion": table.criterion,
        "rows": findings.rows,
        "n": ranking.words,
        "images": ranking.images,
        "alike": ranking.alike,
        "scores": [round(float(ranking.scores[head]), 4) for head in ranking.chosen],
        "intervals_95": [interval(ranking, head) for head in ranking.chosen],
        "rule": rule,
        "words": list(table.texts),
        "model": findings.model.name,
        "revision": findings.model.revision,
    }
    return found if table.again is None else {**found, "found_again": table.again}


def interval(ranking: Ranking, head: Head) -> list[float] | None:
    """Low and high, 95 % over images, to four places; None of one image."""
    if ranking.low is None or ranking.high is None:
        return None
    return [round(float(bound[head]), 4) for bound in (ranking.low, ranking.high)]


def _numbers(ranking: Ranking) -> dict[str, Any]:
    """[layer][head] each."""
    bounds = {"scores": ranking.scores, "low_95": ranking.low, "high_95": ranking.high}
    return {name: None if values is None else values.round(4).tolist() for name, values in bounds.items()}


def encoded(found: Mapping[str, Any]) -> bytes:
    """The file of a document: one line per set, and one per layer of scores."""
    parts = []
    for key, value in found.items():
        rows = value if isinstance(value, list) and value else None
        body = json.dumps(value, ensure_ascii=False)
        if rows:
            body = "[\n  " + ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in rows) + "\n ]"
        parts.append(f" {json.dumps(key)}: {body}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def read_set(path: Path, name: str = "") -> HeadSet:
    """One set of a file.

    Args:
        path: of the file.
        name: of the set; may be left out where the file has one.

    Raises:
        SetsError: the file holds no sets, none of this name, or one that is none.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(read_file(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("sets"), list):
        raise SetsError(f"{path.name}: got no sets of heads, expected a file that `llava-viewer heads` wrote")
    if found.get("version") != VERSION:
        raise SetsError(
            f"{path.name}: got version {found.get('version')!r:.40}, expected {VERSION}; update llava-viewer"
        )
    sets = {str(one.get("name")): one for one in found["sets"] if isinstance(one, dict)}
    if not name and len(sets) == 1:
        [name] = sets
    if name not in sets:
        told = f"{name!r:.80}" if name else "no name"
        raise SetsError(f"{path.name}: got {told}, expected FILE#NAME with one of {sorted(sets)}{nearest(name, sets)}")
    return _checked(path, name, sets[name])


def _checked(path: Path, name: str, given: Mapping[str, Any]) -> HeadSet:
    pairs = given.get("heads")
    if not isinstance(pairs, list) or not 0 < len(pairs) <= _MOST_HEADS or not all(map(_is_pair, pairs)):
        raise SetsError(
            f"{path.name}#{name}: got {pairs!r:.80}, expected heads as [[layer, head], ...]; correct the file"
        )
    heads = tuple((int(layer), int(head)) for layer, head in pairs)
    return HeadSet(name, heads, str(given.get("model", "")), str(given.get("revision", "")))


def _is_pair(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) == 2
        and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in given)
    )
