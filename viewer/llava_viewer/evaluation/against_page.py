"""The part of an evaluation's page that holds the run against another one.

Flow: `Against` -> `Section`: texts of a table and of lists -> templates/evaluation_against.html.j2.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from llava_viewer.evaluation.against import Against, Changed
from llava_viewer.evaluation.differences import interval_of, signed, verdict_of
from llava_viewer.look import wording
from llava_viewer.look.text import visible
from llava_viewer.store.named import MARK


@dataclass(frozen=True)
class Row:
    """One figure of both runs, in texts."""

    figure: str
    of: str
    this: str
    n: str
    other: str
    other_n: str
    difference: str
    interval: str
    p: str
    images: str
    verdict: str
    apart: bool


@dataclass(frozen=True)
class Change:
    """An answer that is right in one run: the item by its id as it is shown, and what shows both answers."""

    id: str
    item: Changed
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """All that the section shows; `counts` is empty without answers that can be judged."""

    here: str
    there: str
    facts: tuple[str, ...]
    counts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    tagged: tuple[Row, ...]
    changes: tuple[tuple[str, str, tuple[Change, ...]], ...]


def against_section(against: Against) -> Section:
    """The section, in texts."""
    both = f"{wording.count(against.images, 'image')} and {wording.count(against.items, 'item')} are in both runs"
    differing = [f"They differ in {'; '.join(against.differing)}"] if against.differing else []
    changes = (
        ("better", against.here, against.only_here, against.better),
        ("worse", against.name, against.only_there, against.worse),
    )
    return Section(
        against.here,
        against.name,
        tuple(visible(_sentence(text)) for text in (both, *differing, *against.aside)),
        tuple((name, f"{number:,}") for name, number in counts_of(against)),
        tuple(_rows(against, tagged=False)),
        tuple(_rows(against, tagged=True)),
        tuple(
            (id, _title(name, count, len(found)), tuple(_change(one, against) for one in found))
            for id, name, count, found in changes
            if found
        ),
    )


def counts_of(against: Against) -> list[tuple[str, int]]:
    """How many items both answer rightly, or one of them; empty where no answers are judged."""
    found = [
        ("right in both", against.both_right),
        ("right here alone", against.only_here),
        ("right there alone", against.only_there),
        ("wrong in both", against.neither),
    ]
    return found if any(number for _, number in found) else []


def _title(name: str, count: int, listed: int) -> str:
    first = f", the first {listed}" if listed < count else ""
    return f"{wording.count(count, 'answer')} right in {name} alone{first}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rows(against: Against, *, tagged: bool) -> Iterator[Row]:
    """Answers, shares and mean maps; single layers and heads are in the files."""
    for key, one in against.differences.items():
        if key.layer is key.head is None and bool(key.tag) == tagged:
            yield Row(
                figure=key.figure,
                of=", ".join(part for part in (key.view, key.words, key.tag) if part),
                this=f"{one.one:.3f}",
                n=f"{one.n:,}",
                other=f"{one.other:.3f}",
                other_n=f"{one.other_n:,}",
                difference=signed(one.value),
                interval=interval_of(one),
                p="" if one.p is None else f"p {one.p:.3f}",
                images=wording.count(one.images, "image"),
                verdict=verdict_of(one),
                apart=one.told_apart,
            )


def _change(one: Changed, against: Against) -> Change:
    return Change(visible(one.id), one, tuple(_commands(one.id, against)))


def _commands(id: str, against: Against) -> Iterator[str]:
    """What shows both answers, in the run's folder: a comparison, or a report each where the grids are not the same."""
    other = os.path.relpath(against.other.wanted.store, against.result.wanted.store)
    named = [f"{store}{MARK}{id}" for store in (".", other)]
    if any(visible(name) != name for name in named):
        return
    one, two = map(shlex.quote, named)
    if against.one_grid:
        yield f"llava-viewer compare {one} {two} -o comparison.html"
    else:
        yield f"llava-viewer render {one} -o here.html"
        yield f"llava-viewer render {two} -o there.html"
