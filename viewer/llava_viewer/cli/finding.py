"""The command `find`: which words, or which heads, looked at a box of the image.

Flow: RUN.npz + a box in px -> `Record.words_at` or `Record.heads_at` -> a table, or JSON for programs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from llava_viewer.cli.console import json_text, one_line
from llava_viewer.cli.files import read_record
from llava_viewer.look.units import Unit, unit_of
from llava_wire.find import Inside, view_of_heads
from llava_wire.record import Record

EXAMPLES = """examples:
  llava-viewer find run.npz --box 83,20,140,77
  llava-viewer find cells.npz --box 83,20,140,77 --heads    cells.npz: a replay with --reduction none

inside: what a word read inside the box; of image: how much of its map lies there; x even: the same against a map that
is even over the image. Words are ranked by the first, heads (each at its best word) by both multiplied. Of maps with
values below 0, inside is the sum, and the other two are of what is above 0 alone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `find`."""
    parser.set_defaults(run=find)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    parser.add_argument("--box", type=_box, required=True, metavar="X0,Y0,X1,Y1", help="in px of the image, upright")
    parser.add_argument("--heads", action="store_true", help="rank heads instead of words")
    parser.add_argument(
        "--view", help="which maps (default: the first view; for heads the first that keeps them apart)"
    )
    parser.add_argument("--layer", type=int, help="of the view, from 0 (default: the mean)")
    parser.add_argument("--head", type=int, help="the same")
    parser.add_argument("--token", type=int, help="with --heads: at this word alone, from 0")
    parser.add_argument(
        "--image", type=int, default=0, metavar="N", help="of several images the one with the box, from 0"
    )
    parser.add_argument("--sequence", type=int, default=0, metavar="N", help="of several answers, from 0")
    parser.add_argument("--top", type=int, default=10, help="so many lines (default: %(default)s; 0: all)")
    parser.add_argument("--json", action="store_true", help="for programs")


def find(arguments: argparse.Namespace) -> None:
    """Prints the ranking."""
    record = read_record(arguments.record).sequence(arguments.sequence)
    found = _ranked(record, arguments)
    shown = found[: arguments.top or None]
    if arguments.json:
        print(json_text([{name: value for name, value in asdict(one).items() if value is not None} for one in shown]))
        return
    view = view_of_heads(record.views, arguments.view) if arguments.heads else record.view(arguments.view)
    for line in _table(unit_of(view), shown):
        print(one_line(line))
    if len(shown) < len(found):
        print(f"... {len(found) - len(shown)} more; --top 0 shows all")
    if arguments.heads and shown:
        print(f"Heads are ranked by inside x {_whole(unit_of(view))}.")


def _ranked(record: Record, arguments: argparse.Namespace) -> list[Inside]:
    if arguments.heads:
        for name in ("layer", "head"):
            if getattr(arguments, name) is not None:
                raise ValueError(
                    f"--{name}: got {getattr(arguments, name)} with --heads, expected neither; leave it out"
                )
        return record.heads_at(arguments.box, token=arguments.token, view=arguments.view, image=arguments.image)
    if arguments.token is not None:
        raise ValueError(f"--token: got {arguments.token} without --heads, expected it with --heads; leave it out")
    where = {"view": arguments.view, "layer": arguments.layer, "head": arguments.head, "image": arguments.image}
    return record.words_at(arguments.box, **where)


def _whole(unit: Unit) -> str:
    # Of a signed map the parts above 0 alone are told as a share: rises and falls together make up no whole.
    return "of what is above 0" if unit.signed else "of image"


def _table(unit: Unit, found: Sequence[Inside]) -> list[str]:
    rows = [("head", "token", "word", "inside", _whole(unit), "x even")]
    rows += [
        (
            "" if one.head is None else f"L{one.layer}H{one.head}",
            str(one.token),
            one.text.strip() or repr(one.text),
            unit.text(one.inside),
            f"{100 * one.of_image:.0f} %",
            f"{one.times_even:.1f}",
        )
        for one in found
    ]
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in kept}
    left = (0, 2)
    return [
        "  ".join(row[i].ljust(widths[i]) if i in left else row[i].rjust(widths[i]) for i in kept).rstrip()
        for row in rows
    ]


def _box(text: str) -> tuple[float, ...]:
    try:
        box = tuple(float(number) for number in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected X0,Y0,X1,Y1 in px")
    return box
