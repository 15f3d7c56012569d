"""A record in words and numbers.

Flow: `Record` -> `summary` (plain values, for --json) -> `summary_text` (for people).
"""

from __future__ import annotations

import math
from typing import Any

from llava_viewer.cli.console import one_line, quoted, size
from llava_viewer.look.wording import check_name, check_text
from llava_wire.choose import mean_image_share
from llava_wire.plain import to_plain
from llava_wire.record import Record
from llava_wire.schema import SHARE_NAMES
from llava_wire.view import View


def summary(record: Record, name: str, count_bytes: int) -> dict[str, Any]:
    """What a record holds, as plain values.

    Args:
        record: the record.
        name: the file's name.
        count_bytes: the file's size.
    """
    facts = record.facts
    shares = _token_shares(record)
    return {
        "file": name,
        "bytes": count_bytes,
        "version": record.version,
        "question": facts.prompt.text,
        "template": facts.prompt.template,
        "prompt_tokens": len(facts.prompt.ids),
        "image_tokens": sum(grid.patches for grid in facts.grids),
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
        "picture": _picture_facts(record),
        "grids": [_grid_facts(record, number) for number in range(len(facts.grids))],
        "views": [_view_facts(record, view) for view in record.views.values()],
        "tokens": [
            {
                "index": i,
                "id": token.id,
                "piece": token.piece,
                "text": token.text,
                "probability": math.exp(token.logprob),
                "image_share": shares.get(i),
                "special": token.special,
            }
            for i, token in enumerate(record.tokens)
        ],
        "run": to_plain(record.run),
    }


def summary_text(found: dict[str, Any]) -> str:
    """The same for people: aligned lines, control characters escaped."""
    model, picture = found["model"], found["picture"]
    head = [
        ("file", f"{found['file']}, {size(found['bytes'])}, format version {found['version']}"),
        ("question", one_line(found["question"])),
        ("answer", one_line(found["answer"])),
        *((f"answer {i}", one_line(text)) for i, text in enumerate(found["alternatives"], start=1)),
        ("ended by", found["finish_reason"]),
        ("prompt", f"{found['prompt_tokens']} tokens, {found['image_tokens']} of them image; {found['template']}"),
        ("model", f"{model['name']} @ {model['revision']}, {model['dtype']} on {model['device']}"),
        ("", f"{model['layers']} layers x {model['heads']} heads, attention: {model['attention']}"),
        *(("checked", f"{check_name(name)}: {check_text(check)}") for name, check in found["checks"].items()),
        *(("note", note["text"]) for note in found["notes"]),
        *(
            ("image", f"{image['width_px']} x {image['height_px']} px, sha256 {image['sha256'][:16]}...")
            for image in found["images"]
        ),
        ("picture", f"{picture['name']}, {size(picture['bytes'])}" if picture else "not in the record"),
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
                "-" if view["image_share"] is None else f"{view['image_share']:.3f}",
            )
        )
    tokens: list[tuple[str, ...]] = [("token", "id", "probability", "image share", "text")]
    for token in found["tokens"]:
        share = token["image_share"]
        tokens.append(
            (
                str(token["index"]),
                str(token["id"]),
                f"{token['probability']:.3f}",
                "-" if share is None else f"{share:.3f}",
                one_line(token["piece"]) if token["special"] else quoted(token["text"]),
            )
        )
    return "\n".join([*lines, "", *_table(views), "", *_table(tokens)])


def _view_facts(record: Record, view: View) -> dict[str, Any]:
    return {
        **to_plain(view.facts),
        "shape": [size for _, size in view.sizes],
        "bytes": int(view.stored.nbytes + view.scales.nbytes + (0 if view.shares is None else view.shares.nbytes)),
        "image_share": mean_image_share(record.facts, view),
    }


def _token_shares(record: Record) -> dict[int, float]:
    """The image share of each answer token.

    It is averaged over the other axes of the first view of shares that keeps the queries.
    """
    image = SHARE_NAMES.index("image")
    for view in record.views.values():
        if "query" in view.axes and view.shares is not None:
            return {
                query.token: float(view.shares[row, ..., image].mean(dtype="float64"))
                for row, query in enumerate(record.queries)
                if query.kind == "answer"
            }
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
    judged = {True: "right", False: "wrong", None: "not judged"}[annotations["right"]]
    rule = f" by the rule {annotations['rule']}" if annotations["rule"] else ""
    expected = f", expected {annotations['expected']}" if annotations["expected"] else ""
    tags = f"; tags {', '.join(annotations['tags'])}" if annotations["tags"] else ""
    return [("annotated", f"{judged}{rule}{expected}{tags}")]


def _picture_facts(record: Record) -> dict[str, Any] | None:
    return {"name": record.picture[0], "bytes": len(record.picture[1])} if record.picture else None


def _step_text(step: dict[str, Any]) -> str:
    text = f"{step['op']} to {step['width_px']} x {step['height_px']}"
    return text if step["op"] == "resize" else f"{text} at ({step['left_px']}, {step['top_px']})"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
