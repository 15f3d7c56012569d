"""The shown numbers as tables: `Shown` -> CSV (one line per patch and token) and npz (arrays that numpy opens)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llava_viewer.export.shown import Item, Shown
from llava_viewer.files import COLUMNS, written
from llava_viewer.look.pieces import prompt_texts
from llava_viewer.look.rows import own_text
from llava_viewer.look.units import shares_of
from llava_viewer.one_grid import OneGrid
from llava_wire.plain import to_plain

MAX_LINES, MANY_LINES = 20_000_000, 500_000
"""The most lines of a table, and the most that are written without being asked for `many`."""


def write_csv(shown: Shown, path: Path, items: tuple[Item, ...] | None = None, *, many: bool = True) -> None:
    """One line per patch of every item, with the columns of `llava_viewer.files.COLUMNS`.

    `text` is a JSON string: whatever a model wrote stays one cell, comes back unchanged, and is no formula to a
    spreadsheet. `attention` is the share of the row's attention at the patch, with nine digits, which float32 needs.

    Raises:
        ValueError: more than `MAX_LINES` lines, or `MANY_LINES` where `many` is false; or a view of another quantity
            than shares, which the columns have no place for.
    """
    shares_of(shown.view, "csv")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    chosen, most = items or shown.items, MAX_LINES if many else MANY_LINES
    lines = sum(item.heat.size for item in chosen)
    if lines > most:
        cure = "take npz" if many else "add --many"
        raise ValueError(f"csv: got {lines} lines, expected {most}; name fewer --tokens, or {cure}")
    texts, rects = prompt_texts(shown.record), shown.record.geometry.patch_rects().reshape(-1, 4)
    places = [[f"{value:.6g}" for value in rect] for rect in rects.tolist()]
    for item in chosen:
        writer.writerows(_lines(shown, item, texts, places))
    with written(path, through_links=False) as partial:
        partial.write_text(buffer.getvalue(), encoding="utf-8")


def write_npz(shown: Shown, path: Path, items: tuple[Item, ...] | None = None) -> None:
    """Arrays without pickles: maps [item, row, col], shares [item, name] or parts [item, part] float32, patch_rects
    [row, col, 4] float64, text [item] (strings), token, step and position [item] int64 (-1 where there is none), and
    about (JSON, with method and quantity); shares are of views of shares, parts of views whose totals split."""
    chosen = items or shown.items
    facts, texts = [_facts(shown, item) for item in chosen], prompt_texts(shown.record)
    model = shown.record.facts.model
    shares = [item.shares for item in chosen if item.shares is not None]
    split = [item.parts for item in chosen if item.parts is not None]
    about = {
        "question": shown.record.facts.prompt.text,
        "answer": shown.record.answer,
        "model": model.name,
        "revision": model.revision,
        "view": shown.view.name,
        "layer": shown.layer,
        "head": shown.head,
        **({"grid": shown.record.grid_name} if isinstance(shown.record, OneGrid) else {}),
        "selection": shown.selection,
        "method": to_plain(shown.view.facts.method),
        "quantity": to_plain(shown.view.quantity),
        "shares": list(shown.view.split_names) if shown.view.shares is not None else [],
        "parts": list(shown.view.facts.parts),
        "kinds": [kind for kind, *_ in facts],
        "error_bound": shown.view.facts.error_bound,
        **({} if (bound := shown.view.facts.block_error_bound) is None else {"block_error_bound": bound}),
    }
    arrays: dict[str, Any] = {
        "maps": np.stack([item.heat for item in chosen]).astype(np.float32),
        "shares": np.stack(shares).astype(np.float32) if shares else None,
        "parts": np.stack(split).astype(np.float32) if split else None,
        "patch_rects": shown.record.geometry.patch_rects(),
        "text": np.array([_text(shown, item, texts) for item in chosen], dtype=np.str_),
        "token": np.array([number for _, number, _, _ in facts], dtype=np.int64),
        "step": np.array([step for _, _, step, _ in facts], dtype=np.int64),
        "position": np.array([position for *_, position in facts], dtype=np.int64),
        "about": np.array(json.dumps(about, ensure_ascii=False)),
    }
    with written(path, through_links=False) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **{name: array for name, array in arrays.items() if array is not None})


def _lines(
    shown: Shown, item: Item, texts: Sequence[str], places: Sequence[Sequence[str]]
) -> Iterator[tuple[object, ...]]:
    """The lines of one item; `places` holds the rectangle of each patch, in reading order."""
    kind, token, step, position = _facts(shown, item)
    numbers = ["" if number < 0 else number for number in (token, step, position)]
    text, share = json.dumps(_text(shown, item, texts), ensure_ascii=False), f"{item.image_share:.9g}"
    cols = item.heat.shape[1]
    for place, value in enumerate(item.heat.ravel().tolist()):
        yield (kind, *numbers, text, *divmod(place, cols), f"{value:.9g}", share, *places[place])


def _facts(shown: Shown, item: Item) -> tuple[str, int, int, int]:
    """(kind, token, step, position) of an item; maps of the whole answer and of phrases have no numbers."""
    if item.tokens:
        return f"phrase {item.how} {','.join(map(str, item.tokens))}", -1, -1, -1
    if item.row is None:
        return "answer mean", -1, -1, -1
    query = shown.record.queries[item.query]
    return query.kind, query.token, query.step, query.position


def _text(shown: Shown, item: Item, texts: Sequence[str]) -> str:
    """The token's text as the record has it, spaces and all; a special token's piece."""
    if item.tokens:
        return item.text
    if item.row is None:
        return shown.record.answer
    query = shown.record.queries[item.query]
    if query.kind == "prompt":
        return texts[query.token]
    return own_text(shown.record.tokens[query.token])
