"""A record in words and numbers.

Flow: `Record` -> `summary` (plain values, for --json) -> `summary_text` (for people).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llava_viewer.cli.console import one_line, quoted, size
from llava_viewer.look.rows import MOST, row_splits, token_texts
from llava_viewer.look.units import Unit, method_text
from llava_viewer.look.wording import NBSP, at_revision, check_name, check_text, judged_by, verdict
from llava_viewer.one_grid import on_one_grid
from llava_wire.choose import mean_image_share, mean_share
from llava_wire.findings.patches import NAME as PATCHES
from llava_wire.findings.patches import PatchCheck
from llava_wire.plain import to_plain
from llava_wire.quantity import Quantity
from llava_wire.record import Record
from llava_wire.schema import SEPARATORS, MethodFacts
from llava_wire.view import TextView, View

_NAMED = 4
"""Words of a row in the text for people."""


def summary(record: Record, name: str, count_bytes: int) -> dict[str, Any]:
    """What a record holds, as plain values.

    Args:
        record: the record.
        name: the file's name.
        count_bytes: the file's size.
    """
    facts = record.facts
    shares, apart = _token_shares(record, "image"), _token_shares(record, SEPARATORS)
    tested = _tested_patches(record)
    return {
        "file": name,
        "bytes": count_bytes,
        "version": record.version,
        "question": facts.prompt.text,
        "template": facts.prompt.template,
        "prompt_tokens": len(facts.prompt.ids),
        "image_tokens": sum(grid.patches for grid in facts.grids),
        "separators": sum(count for _, count in facts.prompt.separators),
        "answer": record.answer,
        "alternatives": [other.answer for other in record.alternatives],
        "finish_reason": facts.finish_reason,
        "model": to_plain(facts.model),
        "sampling": to_plain(facts.sampling),
        "software": to_plain(facts.software),
        "checks": to_plain(facts.checks),
        "annotations": to_plain(facts.annotations),
        "notes": to_plain(facts.notes),
        "images": to_plain(facts.images),
        "picture": _picture_facts(record)[0] if record.pictures else None,
        "pictures": _picture_facts(record),
        "grids": [_grid_facts(record, number) for number in range(len(facts.grids))],
        "views": [_view_facts(record, view) for view in record.views.values()],
        "texts": [_text_facts(record, view) for view in record.texts.values()],
        "tokens": [
            {
                "index": i,
                "id": token.id,
                "piece": token.piece,
                "text": token.text,
                "probability": math.exp(token.logprob),
                "without_image": None if token.without_image is None else math.exp(token.without_image),
                "patches": tested.get(i),
                "image_share": shares.get(i),
                "separator_share": apart.get(i),
                "special": token.special,
            }
            for i, token in enumerate(record.tokens)
        ],
        "run": to_plain(record.run),
    }


def summary_text(found: dict[str, Any]) -> str:
    """The same for people: aligned lines, control characters escaped."""
    model = found["model"]
    head = [
        ("file", f"{found['file']}, {size(found['bytes'])}, format version {found['version']}"),
        ("question", one_line(found["question"])),
        ("answer", one_line(found["answer"])),
        *((f"answer {i}", one_line(text)) for i, text in enumerate(found["alternatives"], start=1)),
        ("ended by", found["finish_reason"]),
        ("prompt", f"{found['prompt_tokens']} tokens, {_image_text(found)}; {found['template']}"),
        ("model", f"{at_revision(model['name'], model['revision'])}, {model['dtype']} on {model['device']}"),
        ("", f"{model['layers']} layers x {model['heads']} heads, attention: {model['attention']}"),
        *(("checked", f"{check_name(name)}: {check_text(check, name)}") for name, check in found["checks"].items()),
        *(("note", note["text"]) for note in found["notes"]),
        *(
            ("image", f"{image['width_px']} x {image['height_px']} px, sha256 {image['sha256'][:16]}...")
            for image in found["images"]
        ),
        *(("pixels", f"{picture['name']}, {size(picture['bytes'])}") for picture in found["pictures"]),
        *([] if found["pictures"] else [("pixels", "not in the record")]),
        *(line for grid in found["grids"] for line in _grid_lines(grid, several=len(found["grids"]) > 1)),
        *_annotation_lines(found["annotations"]),
    ]
    lines = [f"{key:<10}{one_line(str(value))}" for key, value in head]
    views: list[tuple[str, ...]] = [
        ("view", "axes", "shape", "stored as", "size", "max error", "quantity", "image share")
    ]
    for view in found["views"]:
        views.append(
            (
                one_line(view["name"]),
                ",".join(view["axes"][:-1]) or "-",
                "x".join(map(str, view["shape"])),
                view["encoding"],
                size(view["bytes"]),
                f"{view['error_bound']:.1e}",
                one_line(view["quantity"]["name"]),
                "-" if view["image_share"] is None else _shares_text(view),
            )
        )
    apart = found["separators"] > 0
    more = ("separators",) if apart else ()
    tokens: list[tuple[str, ...]] = [("token", "id", "probability", "without image", "image share", *more, "text")]
    for token in found["tokens"]:
        blind = token["without_image"]
        tokens.append(
            (
                str(token["index"]),
                str(token["id"]),
                f"{token['probability']:.3f}",
                "-" if blind is None else f"{blind:.3f}",
                _share_text(token["image_share"]),
                *([_share_text(token["separator_share"])] if apart else []),
                one_line(token["piece"]) if token["special"] else quoted(token["text"]),
            )
        )
    tested = ["", *told] if (told := _patch_lines(found["tokens"])) else []
    splits = [line for view in found["views"] for line in _split_lines(view)]
    read = [line for view in found["texts"] for line in _text_lines(view)]
    methods = _method_lines([*found["views"], *found["texts"]])
    return "\n".join([*lines, "", *_table(views), *methods, "", *_table(tokens), *tested, *splits, *read])


def _text_facts(record: Record, view: TextView) -> dict[str, Any]:
    """A view of text, with the words that each row read most."""
    shown, queries = token_texts(record), record.queries
    prompt = len(record.facts.prompt.ids)
    return {
        **to_plain(view.facts),
        "rows": [
            {
                "kind": query.kind,
                "token": query.token,
                "text": shown[query.token if query.kind == "prompt" else prompt + query.token],
                "words": [
                    {"position": place, "text": shown[place], "value": value} for place, value in view.most(row, MOST)
                ],
            }
            for row, query in enumerate(queries)
        ],
    }


def _text_lines(view: dict[str, Any]) -> list[str]:
    """The words that each row of a view of text read most."""
    unit = Unit(Quantity(**view["quantity"]))
    rows: list[tuple[str, ...]] = [("token", "text", f"words that {one_line(view['name'])} read, by position")]
    for row in view["rows"]:
        words = [f"{quoted(w['text'])} ({w['position']}) {unit.text(w['value'])}" for w in row["words"][:_NAMED]]
        rows.append((str(row["token"]), quoted(row["text"]), one_line(", ".join(words).replace(NBSP, " "))))
    return ["", *_table(rows)]


def _tested_patches(record: Record) -> dict[int, dict[str, Any]]:
    """What the check of patches found, by token."""
    check = PatchCheck.of_checks(record.facts.checks, len(record.tokens), sum(grid.patches for grid in record.grids))
    return {} if check is None else {word.token: to_plain(word) for word in check.words}


def found_lines(record: Record, named: Sequence[Any]) -> list[str]:
    """What checks, as a request names them, found of an answer: a line each, and the table of words with patches."""
    names = [one if isinstance(one, str) else str(one.get("name")) for one in named]
    told = [(name, check_text(record.facts.checks.get(name, {}), name).replace(NBSP, " ")) for name in names]
    lines = [one_line(f"{check_name(name)}: {text}") for name, text in told]
    return [*lines, *(_patch_lines(summary(record, "", 0)["tokens"]) if PATCHES in names else [])]


def _method_lines(views: Sequence[dict[str, Any]]) -> list[str]:
    """How the maps of each view were made that are not attention: method and parameters, such as a rival."""
    rows: list[tuple[str, ...]] = [("view", "what its values are")]
    for view in views:
        method = MethodFacts(**view["method"])
        if method != MethodFacts():
            told = method_text(method, Quantity(**view["quantity"]))
            rows.append((one_line(view["name"]), one_line(told)))
    return ["", *_table(rows)] if len(rows) > 1 else []


def _patch_lines(tokens: list[dict[str, Any]]) -> list[str]:
    """Words with some patches alone and hidden, beside random ones; none where that was not tested."""
    rows: list[tuple[str, ...]] = [("token", "patches", "alone", "random", "hidden", "random", "text")]
    for token in tokens:
        if (word := token["patches"]) is not None:
            spread = (
                f"{word[name]:.3f} ({word[f'{name}_low']:.3f} to {word[f'{name}_high']:.3f})"
                for name in ("random_alone", "random_hidden")
            )
            alone, hidden = next(spread), next(spread)
            places, text = str(len(word["patches"])), quoted(token["text"])
            rows.append(
                (str(token["index"]), places, f"{word['alone']:.3f}", alone, f"{word['hidden']:.3f}", hidden, text)
            )
    return _table(rows) if len(rows) > 1 else []


def _split_lines(view: dict[str, Any]) -> list[str]:
    """What the total of each row of a view splits into, in its unit."""
    if not view["splits"]:
        return []
    unit = Unit(Quantity(**view["quantity"]))
    rows: list[tuple[str, ...]] = [("token", f"parts of {one_line(view['name'])}", "text")]
    for row in view["splits"]:
        names = [one_line(name) for name in row["parts"]]
        told = one_line(unit.split(names, list(row["parts"].values())).replace(NBSP, " "))
        rows.append(("-" if row["token"] is None else str(row["token"]), told, quoted(row["text"])))
    return ["", *_table(rows)]


def _view_facts(record: Record, view: View) -> dict[str, Any]:
    return {
        **to_plain(view.facts),
        "shape": [size for _, size in view.sizes],
        "bytes": view.nbytes,
        "splits": [
            {"token": token, "text": text, "parts": dict(zip(view.facts.parts, numbers, strict=True))}
            for token, text, numbers in row_splits(record, view)
        ],
        "image_share": mean_image_share(record.facts, view),
        "grid_shares": _grid_shares(record, view),
        "separator_share": mean_share(record.facts, view, SEPARATORS),
    }


def _grid_shares(record: Record, view: View) -> list[float | None]:
    """The part of the view's image share that lies on each grid."""
    parts = [on_one_grid(record, number) for number in range(len(record.grids))]
    return [mean_image_share(one.facts, one.views[view.name]) for one in parts]


def _token_shares(record: Record, name: str) -> dict[int, float]:
    """One share of each answer token, averaged over the other axes of the first view of shares that keeps queries."""
    for view in record.views.values():
        if "query" in view.axes and (split := view.split()) is not None and name in view.split_names:
            part = split[..., view.split_names.index(name)].reshape(len(record.queries), -1).mean(1, dtype="float64")
            return {one.token: float(part[row]) for row, one in enumerate(record.queries) if one.kind == "answer"}
    return {}


def _grid_facts(record: Record, number: int) -> dict[str, Any]:
    grid, geometry = record.grids[number], record.geometry_of(number)
    return {**to_plain(grid), "seen_px": list(geometry.seen_rect())}


def _grid_lines(grid: dict[str, Any], *, several: bool) -> list[tuple[str, str]]:
    """Where a grid comes from, with its name and picture where there are several."""
    steps = "".join(f"{_step_text(step)} -> " for step in grid["steps"])
    name = f"{grid['name']}, image {grid['image']}: " if several else ""
    return [
        ("grid", f"{name}{steps}{grid['rows']} rows x {grid['cols']} columns of {grid['patch_px']} px"),
        ("seen", "x {0:g}..{2:g}, y {1:g}..{3:g} px of the image".format(*grid["seen_px"])),
    ]


def _annotation_lines(annotations: dict[str, Any] | None) -> list[tuple[str, str]]:
    if annotations is None:
        return []
    judged = verdict(annotations["right"])
    expected = f", expected “{annotations['expected']}”" if annotations["expected"] else ""
    tags = f"; tags {', '.join(annotations['tags'])}" if annotations["tags"] else ""
    return [("annotated", f"{judged}{judged_by(annotations['rule'])}{expected}{tags}")]


def _picture_facts(record: Record) -> list[dict[str, Any]]:
    return [{"name": name, "bytes": len(data)} for name, data in record.pictures]


def _step_text(step: dict[str, Any]) -> str:
    text = f"{step['op']} to {step['width_px']} x {step['height_px']}"
    return text if step["op"] == "resize" else f"{text} at ({step['left_px']}, {step['top_px']})"


def _shares_text(view: dict[str, Any]) -> str:
    """The image share, and of several grids what lies on each."""
    parts = view["grid_shares"]
    on_each = f" = {' + '.join(f'{share:.3f}' for share in parts)}" if len(parts) > 1 else ""
    apart = "" if view["separator_share"] is None else f"; separators {view['separator_share']:.3f}"
    return f"{view['image_share']:.3f}{on_each}{apart}"


def _image_text(found: dict[str, Any]) -> str:
    """How many tokens of a prompt are patches, and how many separators."""
    apart = f", {found['separators']} separators" if found["separators"] else ""
    return f"{found['image_tokens']} of them image{apart}"


def _share_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
