"""One page over a store: its records in pages of 500, the worst first, thumbnails as they are scrolled to.

Flow: parts, in parallel -> what each record shows -> blocks of 25 in files of their own beside index.html (text and
thumbnail), columns of all records to filter and sort by, all texts to search -> index.html with the first 500 in words.

A page from a disk may fetch nothing but scripts, so blocks are scripts that hand over one value (`gaze(name, value)`);
the page's policy allows those beside it. What is opened first stays under 1 MB whatever the store's size.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llava_viewer.files import written
from llava_viewer.look import wording
from llava_viewer.look.text import visible
from llava_viewer.pages.index import INDEX_NAME, Skipped, entry_of
from llava_viewer.pages.report import page
from llava_viewer.pages.styles import static_text
from llava_viewer.store.many import over_parts
from llava_viewer.store.named import render_command
from llava_viewer.store.part import Row, StoreError, read_rows
from llava_viewer.store.store import Store

BLOCKS = "index"
"""The folder beside index.html that holds its blocks."""
PAGE, BLOCK, SEARCHED = 500, 25, 5000
"""Records of a page, of a block with thumbnails, and of a file of texts to search."""
THUMB_PX = 200
_FIRST_CHARS, _TEXT_CHARS = 160, 600
"""Of each text in index.html itself, and in a block."""
_TOLD = 200
_OWN = re.compile(r"(?:[bt]\d+|columns)\.js")
NUMBERS = {
    "share": "image share in %", "tokens": "tokens", "logprob": "mean log p", "needing": "words that need the image",
    "n": "number",
}  # fmt: skip
"""Columns to filter and sort by, and what they are called."""


@dataclass(frozen=True)
class Card:
    """One record as the page lists it."""

    id: str
    command: str
    prompt: str
    answer: str
    verdict: str
    expected: str
    facts: str


@dataclass
class _Part:
    """What there is of one part: cards with thumbnails, columns, and what cannot be shown."""

    cards: list[dict[str, Any]] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def write_stored_index(
    folder: Path, *, title: str = "Runs", told: Callable[[int, int], None] = lambda done, all: None
) -> Path:
    """Writes index.html and the folder `index` into a store, and returns the page's path.

    Args:
        folder: the store's.
        title: the page's heading.
        told: gets how many parts are read, of how many.

    Raises:
        StoreError: it is no store, nothing of it is finished, or a part is damaged.

    Warns:
        UserWarning: for records that cannot be shown: they are listed on the page.
    """
    with Store(folder) as store:
        parts, items = store.parts, store.about.items
    if not parts:
        with Store(folder) as store:
            store.check_answered()
    blocks = folder / BLOCKS
    if blocks.is_symlink():
        raise StoreError(f"{blocks}: got a link, expected a folder of the store's own; remove it")
    blocks.mkdir(exist_ok=True)
    # What an earlier, larger index left there is of no page any more.
    for old in blocks.glob("*.js"):
        if _OWN.fullmatch(old.name):
            old.unlink()
    columns: list[dict[str, Any]] = []
    texts: list[tuple[str, str, str]] = []
    skipped: list[Skipped] = []
    waiting: list[dict[str, Any]] = []
    written_blocks = 0
    for part in over_parts(parts, partial(_read, folder), told):
        columns += part.columns
        skipped += part.skipped
        waiting += part.cards
        texts += [(card["id"], card["prompt"], card["answer"]) for card in part.cards]
        while len(waiting) >= BLOCK:
            _write(blocks, f"b{written_blocks}", waiting[:BLOCK])
            del waiting[:BLOCK]
            written_blocks += 1
    if waiting:
        _write(blocks, f"b{written_blocks}", waiting)
    order = sorted(range(len(columns)), key=lambda place: worst_first(columns[place]))
    tags = sorted({tag for one in columns for tag in one["tags"]})
    _write(blocks, "columns", _as_columns(columns, order, tags))
    for start in range(0, len(texts), SEARCHED):
        lower = [" ".join(one).lower() for one in texts[start : start + SEARCHED]]
        _write(blocks, f"t{start // SEARCHED}", lower)
    target = folder / INDEX_NAME
    html = _page(title, items, columns, texts, order, tags, skipped)
    with written(target, through_links=False) as coming:
        coming.write_text(html, encoding="utf-8")
    for one in skipped[:_TOLD]:
        warnings.warn(f"{one.name} was skipped: {one.reason}", stacklevel=2)
    return target


def worst_first(one: dict[str, Any]) -> tuple[Any, ...]:
    """Where a record stands: wrong answers, the surest first; then all others, the least sure first."""
    wrong = one["verdict"] == "wrong"
    return (not wrong, -one["logprob"] if wrong else one["logprob"], one["n"])


def _read(folder: Path, path: Path) -> _Part:
    """What the page shows of one part."""
    found = _Part()
    with Store(folder) as store:
        for row in read_rows(path):
            name = visible(row["id"])
            if row["error"] is not None:
                found.skipped.append(Skipped(name, f"{row['error']['field']}: {row['error']['message']}"))
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    card, column = _shown(row, store)
            except MemoryError:
                found.skipped.append(Skipped(name, "takes more memory than there is"))
            except Exception as error:  # one damaged record must not cost the list of all others
                found.skipped.append(Skipped(name, f"cannot be shown ({type(error).__name__} {error!s:.200})"))
            else:
                found.cards.append(card)
                found.columns.append(column)
    return found


def _shown(row: Row, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a block holds of a record, and what all are filtered and sorted by."""
    record = store.record_of(row, picture=False)
    entry = entry_of("", record, THUMB_PX, store.photo(row, record))
    facts = f"{entry.share_text} on the image (view “{entry.view}”) · {entry.tokens_text}"
    card = {
        "id": row["id"],
        "command": render_command(row["id"]),
        "prompt": entry.prompt[:_TEXT_CHARS],
        "answer": entry.answer[:_TEXT_CHARS],
        "verdict": entry.verdict,
        "expected": entry.expected[:_TEXT_CHARS],
        "facts": f"{facts} · {entry.needs}" if entry.needs else facts,
        "tags": entry.tags.splitlines(),
        "thumb": entry.thumb,
        "label": entry.thumb_label[:_TEXT_CHARS],
    }
    logprobs = row["logprobs"] or [0.0]
    column = {
        "n": row["n"],
        "share": round(float(entry.share), 4),
        "tokens": int(entry.tokens),
        "needing": int(entry.needing) if entry.needing else -1,
        "logprob": round(sum(logprobs) / len(logprobs), 4),
        "verdict": entry.verdict,
        "expected": entry.expected[:_FIRST_CHARS],
        "tags": card["tags"],
    }
    return card, column


def _as_columns(columns: Sequence[dict[str, Any]], order: Sequence[int], tags: Sequence[str]) -> dict[str, Any]:
    verdicts = {"": 0, "right": 1, "wrong": 2}
    numbers = {tag: number for number, tag in enumerate(tags)}
    return {
        **{name: [one[name] for one in columns] for name in NUMBERS},
        "share": [round(100 * one["share"], 2) for one in columns],  # as cards tell it
        "verdict": [verdicts[one["verdict"]] for one in columns],
        "tags": [[numbers[tag] for tag in one["tags"]] for one in columns],
        "order": order,
    }


def _write(folder: Path, name: str, value: object) -> None:
    """A script that hands one value to the page."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    (folder / f"{name}.js").write_text(f"gaze({json.dumps(name)},{text});\n", encoding="ascii")


def _page(
    title: str,
    items: int,
    columns: Sequence[dict[str, Any]],
    texts: Sequence[tuple[str, str, str]],
    order: Sequence[int],
    tags: Sequence[str],
    skipped: Sequence[Skipped],
) -> str:
    count = len(columns)
    told = f"{count:,} of {wording.count(items, 'item')}"
    return page(
        "stored.html.j2",
        css=(static_text("base.css") + static_text("index.css"),),
        scripts=(static_text("stored.js"),),
        beside=True,
        title=title,
        command_hint=wording.COMMAND_HINT,
        count=told,
        total=count,
        first=list(_first(columns, texts, order)),
        page_size=PAGE,
        block=BLOCK,
        searched=SEARCHED,
        folder=BLOCKS,
        tags=tags,
        judged=any(one["verdict"] for one in columns),
        numbers=NUMBERS,
        skipped=skipped[:_TOLD],
        skipped_text=wording.count(len(skipped), "item"),
        more=max(0, len(skipped) - _TOLD),
    )


def _first(
    columns: Sequence[dict[str, Any]], texts: Sequence[tuple[str, str, str]], order: Sequence[int]
) -> Iterator[Card]:
    """The first page, in words."""
    for place in order[:PAGE]:
        id, prompt, answer = texts[place]
        one = columns[place]
        facts = f"{wording.percent(one['share'])} on the image · {wording.count(one['tokens'], 'token')}"
        yield Card(
            visible(id), render_command(id), prompt[:_FIRST_CHARS], answer[:_FIRST_CHARS], one["verdict"],
            one["expected"], facts,
        )  # fmt: skip
