"""The command `export`: a record -> overlays, figures, sheets, animations and tables in one folder.

Flow: arguments -> `Shown` -> `Job`s, their files claimed before the first is written -> the written paths on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llava_viewer import files as kinds
from llava_viewer.cli.console import UsageError, counted, print_path, say
from llava_viewer.cli.files import add_pictures, read_record, with_pictures_of
from llava_viewer.cli.outputs import Outputs, add_force
from llava_viewer.cli.selection import indices
from llava_viewer.look.colormap import DEFAULT_PALETTE, PALETTES
from llava_viewer.look.units import shares_of
from llava_viewer.one_grid import on_one_grid
from llava_wire.record import Record

if TYPE_CHECKING:
    from llava_viewer.export.drawing import Drawing
    from llava_viewer.export.shown import Item, Look, Shown

EXAMPLES = """examples:
  llava-viewer export run.npz -o overlays/                          one overlay per map of the view, and a log
  llava-viewer export run.npz -o paper/ --as png,svg --tokens 5     one figure at 300 dpi, and as vectors
  llava-viewer export run.npz -o paper/ --as pdf --phrase 4-6 --crop      three words, of what was seen
  llava-viewer export layers.npz -o all/ --as sheet,gif,csv,npz --layer 2    layers.npz: a replay with --reduction heads

kinds:
  toolkit    step_5.png, step_5_layer_2_head_7.png, ... for every map, and log.txt
  png, svg   figure_step_5.png: token, image, legend with units, caption; one per token
  pdf        figure_step_5.pdf: the picture of png on a page of its size, its text can be found and copied
  sheet      sheet.png, also sheet-svg and sheet-pdf: every token of the answer on one page
  heads      heads.png, also heads-svg and heads-pdf: a row a token, a column for every layer or head of the view
  gif, apng  answer.gif, answer.png: the answer unfolding word by word
  csv, npz   numbers.csv, numbers.npz: the numbers that the figures show
"""
_PAGES = {
    f"{what}{end}": kind for what in ("sheet", "heads") for end, kind in (("", "png"), ("-svg", "svg"), ("-pdf", "pdf"))
}
"""Kinds that are one drawing, and the kind of its file."""
_ONE_EACH = ("png", "svg", "pdf")
"""Kinds of which every word gets a file."""
KINDS = ("toolkit", *_ONE_EACH, *_PAGES, "gif", "apng", "csv", "npz")
_WIDTH_MM = {**dict.fromkeys(_PAGES, 180.0), "gif": 100.0, "apng": 100.0}
_FIGURE_MM = 84.0
_DPI = {"gif": 150, "apng": 150}
_MOST_FIGURES, _MANY_FIGURES = 2000, 64
"""The most figures, and the most that are drawn without --many."""
_MANY_VECTORS = 1_000_000
"""The most patches that are written as vectors without --many; each is a path's part."""
_NOT_TOOLKIT: dict[str, object] = {
    "layer": None, "head": None, "tokens": None, "mode": "heat", "scale": "token", "width_mm": None, "dpi": None,
    "no_caption": False, "font": [], "frame_ms": 700, "phrase": [], "crop": False,
}  # fmt: skip
"""Options that the kind toolkit does not know, with their defaults: it draws every map of the view, one way."""


@dataclass(frozen=True)
class Job:
    """One call that writes files: where to, and what they will hold (`llava_viewer.files`)."""

    paths: tuple[Path, ...]
    holds: str
    write: Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    parser.set_defaults(run=export)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="made when it is not there")
    parser.add_argument(
        "--as", dest="kinds", type=_kinds, default=("toolkit",), metavar="KIND[,KIND]", help="default: toolkit"
    )
    what = parser.add_argument_group("what to show")
    what.add_argument("--view", metavar="NAME", help="the view (default: the first)")
    what.add_argument("--layer", type=int, metavar="N", help="one layer, where the view keeps layers apart")
    what.add_argument("--head", type=int, metavar="N", help="one head, where the view keeps heads apart")
    what.add_argument(
        "--grid", metavar="NAME", help="one of several grids, by name or number, or composite; inspect lists them"
    )
    what.add_argument("--tokens", type=indices, metavar="TOKENS",
                      help="of the answer: all, 5 or 0,3-7 (default: all but special ones)")  # fmt: skip
    what.add_argument(
        "--phrase",
        type=_phrase,
        action="append",
        default=[],
        metavar="PHRASE",
        help='several words as one: "green guitar", where the answer has it once, or tokens, 4,5 or 4-6; the mean of '
        "their maps, or with ,max behind it at each patch the largest; repeatable, and alone unless --tokens names "
        "others",
    )
    add_pictures(what)
    how = parser.add_argument_group("how to draw it")
    how.add_argument("--mode", choices=("heat", "spotlight", "map"), default="heat", help="default: %(default)s")
    how.add_argument("--palette", choices=PALETTES, default=DEFAULT_PALETTE, help="default: %(default)s")
    how.add_argument(
        "--scale", choices=("token", "shared"), default="token", help="each map's own, or one for all (%(default)s)"
    )
    how.add_argument("--width-mm", type=float, metavar="MM", help="84 (a column) for figures, 180 sheets, 100 moving")
    how.add_argument("--dpi", type=int, metavar="N", help="of PNG files: 300, moving ones 150")
    how.add_argument("--crop", action="store_true", help="leave out what the model did not see of the image")
    how.add_argument("--no-caption", action="store_true", help="figures without the lines under the legend")
    how.add_argument("--font", action="append", default=[], metavar="FILE", help="a font to draw letters with first")
    how.add_argument("--frame-ms", type=int, default=700, metavar="MS", help="time per word (default: %(default)s)")
    parser.add_argument("--many", action="store_true", help="also more files, figures or lines than people look at")
    add_force(parser)


def export(arguments: argparse.Namespace) -> None:
    """Writes every kind that was asked for and prints the paths."""
    if arguments.kinds == ("toolkit",):
        unused = [name for name, default in _NOT_TOOLKIT.items() if getattr(arguments, name) not in (default, "all")]
        if unused:
            raise UsageError(
                f"--{unused[0].replace('_', '-')}: got it for toolkit, which draws every map of the view in one way, "
                "expected with the other kinds; name one, such as --as png"
            )
    record = read_record(arguments.record).sequence(arguments.sequence)
    record, _ = with_pictures_of(record, arguments.image, own_is_drawn=True)
    record = on_one_grid(record, arguments.grid)
    if "csv" in arguments.kinds:  # before anything is written
        shares_of(record.view(arguments.view), "csv")
    plan = [
        (kind, _toolkit(record, arguments) if kind == "toolkit" else _drawn(record, arguments, kind))
        for kind in arguments.kinds
    ]
    inputs = (arguments.record, *(arguments.image or ()), *map(Path, arguments.font))
    outputs = Outputs(inputs, force=arguments.force)
    for kind, jobs in plan:
        for job in jobs:
            for path in job.paths:
                outputs.claim(f"--as {kind}", path, job.holds, own=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.kinds != ("toolkit",):
        _say_undrawable(record, tuple(arguments.font))
    for kind, jobs in plan:
        for job in jobs:
            job.write()
            for path in job.paths:
                print_path(path)
        count = counted(sum(len(job.paths) for job in jobs), "file")
        over = outputs.over(path for job in jobs for path in job.paths)
        say(f"wrote {count}: {kind}{over}")


def _toolkit(record: Record, arguments: argparse.Namespace) -> list[Job]:
    from llava_viewer.export import check_files, export_overlays, file_names, write_text_log

    folder, log = arguments.output, arguments.output / "log.txt"
    check_files(record, record.view(arguments.view), many=arguments.many)
    names = [name for name, _ in file_names(record, record.view(arguments.view))]
    overlays = partial(export_overlays, record, folder, view=arguments.view, palette=arguments.palette)
    return [
        Job(tuple(folder / name for name in names), kinds.PNG, overlays),
        Job((log,), kinds.LOG, partial(write_text_log, record, log)),
    ]


def _drawn(record: Record, arguments: argparse.Namespace, kind: str) -> list[Job]:
    from llava_viewer import export as files

    look = files.Look(
        mode=arguments.mode,
        palette=arguments.palette,
        scale=arguments.scale,
        width_mm=arguments.width_mm if arguments.width_mm is not None else _WIDTH_MM.get(kind, _FIGURE_MM),
        dpi=arguments.dpi if arguments.dpi is not None else _DPI.get(kind, 300),
        caption=not arguments.no_caption,
        fonts=tuple(arguments.font),
        crop=arguments.crop,
    )
    shown = files.show(record, view=arguments.view, layer=arguments.layer, head=arguments.head, look=look)
    if kind.startswith("heads"):
        return _word_heads(record, arguments, look, kind)
    items = _items(shown, arguments, kind)
    folder, frame_ms, many = arguments.output, arguments.frame_ms, arguments.many
    vectors = len(items or shown.items) * shown.items[0].heat.size
    if kind in ("svg", "sheet-svg") and vectors > _MANY_VECTORS and not many:
        raise ValueError(
            f"--as {kind}: got {vectors} patches, expected {_MANY_VECTORS}; name fewer --tokens, or add --many"
        )
    if kind in _ONE_EACH:
        chosen = items or shown.items
        most = _MOST_FIGURES if many else _MANY_FIGURES
        if len(chosen) > most:
            raise ValueError(
                f"--as {kind}: got {len(chosen)} figures, expected {most}; name fewer --tokens"
                f"{'' if many else ', or add --many'}"
            )
        place = "".join(f"_{name}_{n}" for name, n in (("layer", shown.layer), ("head", shown.head)) if n is not None)

        return [
            _job(partial(files.figure, shown, item), folder / f"figure_{item.name}{place}.{kind}", look.dpi)
            for item in chosen
        ]
    if kind.startswith("sheet"):
        sheet = partial(files.contact_sheet, shown, items, many=many)
        return [_job(sheet, folder / f"sheet.{_PAGES[kind]}", look.dpi)]

    def animation(path: Path) -> None:
        files.write_animation(shown, path, items, frame_ms=frame_ms, many=many)

    writers: dict[str, tuple[str, str, Callable[[Path], None]]] = {
        "gif": ("answer.gif", kinds.GIF, animation),
        "apng": ("answer.png", kinds.PNG, animation),
        "csv": ("numbers.csv", kinds.CSV, lambda path: files.write_csv(shown, path, items, many=many)),
        "npz": ("numbers.npz", kinds.NUMBERS, lambda path: files.write_npz(shown, path, items)),
    }
    name, holds, write = writers[kind]
    return [Job((folder / name,), holds, partial(write, folder / name))]


def _word_heads(record: Record, arguments: argparse.Namespace, look: Look, kind: str) -> list[Job]:
    from llava_viewer import export as files

    def rows(shown: Shown) -> tuple[Item, ...]:
        return _items(shown, arguments, kind) or shown.ordinary()

    where = {"view": arguments.view, "layer": arguments.layer, "head": arguments.head}
    drawing = files.word_heads(record, **where, look=look, choose=rows, many=arguments.many)
    return [_job(lambda: drawing, arguments.output / f"heads.{_PAGES[kind]}", look.dpi)]


def _job(draw: Callable[[], Drawing], path: Path, dpi: int) -> Job:
    """A drawing as the kind of file that its name ends in."""
    from llava_viewer import export as files

    def write() -> None:
        if path.suffix == ".svg":
            files.write_svg(draw(), path)
        else:
            {".png": files.write_png, ".pdf": files.write_pdf}[path.suffix](draw(), path, dpi)

    return Job((path,), {".png": kinds.PNG, ".svg": kinds.SVG, ".pdf": kinds.PDF}[path.suffix], write)


def _items(shown: Shown, arguments: argparse.Namespace, kind: str) -> tuple[Item, ...] | None:
    """The items that the arguments name: phrases, and tokens beside them; None for what the kind shows by itself."""
    from llava_viewer.export import phrase

    phrases = arguments.phrase
    if phrases and kind in ("gif", "apng"):
        raise UsageError(
            f"--phrase: got it for {kind}, which shows word by word, expected png, svg, pdf, a sheet or numbers"
        )
    joined = tuple(
        _worded(shown, named, how) if isinstance(named, str) else phrase(shown, named, how) for named, how in phrases
    )
    if arguments.tokens is None:
        return joined or (shown.ordinary() or None if kind in _ONE_EACH else None)
    tokens = arguments.tokens
    if tokens == "all":
        return (*shown.items, *joined) if joined else None
    return (*(shown.item(token) for token in tokens), *joined)


def _phrase(text: str) -> tuple[list[int] | str, Literal["mean", "max"]]:
    """Tokens that are one phrase, or its words, and how: "4-6", "4,5,max", "green guitar"."""
    named, comma, last = text.rpartition(",")
    how: Literal["mean", "max"] = "max" if comma and last == "max" else "mean"
    named = named if how == "max" else text
    if not named.strip() or named == "all":
        raise argparse.ArgumentTypeError(
            f"got {text!r:.80}, expected words of the answer, or its tokens: 4,5 or 4-6,max"
        )
    return (indices(named) if named[0].isdecimal() and not named.strip("0123456789,-") else named), how


def _worded(shown: Shown, words: str, how: Literal["mean", "max"]) -> Item:
    """Words where the answer has them; a word that is one token is that token.

    Raises:
        UsageError: it has them nowhere, or several times.
    """
    from llava_viewer.export import phrase
    from llava_viewer.heads.words import phrase_places

    places = phrase_places([token.text for token in shown.record.tokens], words)
    if not places:
        raise UsageError(
            f"--phrase: got {words!r:.80}, which is not in the answer, {shown.record.answer!r:.200}, expected words as "
            "they stand there, or tokens, such as 4-6; inspect lists them"
        )
    if len(places) > 1:
        named = [f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]) for own in places]
        option = "--phrase" if any(len(own) > 1 for own in places) else "--tokens"
        raise UsageError(
            f"--phrase: got {words!r:.80}, which the answer has {len(places)} times, at tokens {', '.join(named[:8])}"
            f"{', ...' if len(named) > 8 else ''}, expected one place; name its tokens: {option} {named[0]}"
        )
    return phrase(shown, places[0], how) if len(places[0]) > 1 else shown.item(places[0][0])


def _say_undrawable(record: Record, fonts: tuple[str, ...]) -> None:
    from llava_viewer.export.fonts import undrawable

    missing = undrawable([record.facts.prompt.text, record.answer], fonts)
    if missing:
        codes = ", ".join(f"U+{ord(character):04X}" for character in missing[:8])
        more = ", ..." if len(missing) > 8 else ""
        say(f"warning: no font here draws {codes}{more}; name one with --font, or take svg")


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(text.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"got {kind!r}, expected {', '.join(KINDS)}")
    return kinds
