"""The command `compare`: two to four runs on one picture -> one HTML file.

Flow: `RUN.npz::view=NAME,layer=N,head=N` -> `Pick`s -> compare.html -> its path on stdout.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from llava_viewer.cli.files import read_record, with_pictures_of
from llava_viewer.cli.outputs import Outputs, add_force
from llava_viewer.files import COMPARISON
from llava_viewer.store.named import in_store, names_of

EXAMPLES = """examples:
  llava-viewer compare red.npz blue.npz -o compare.html
  llava-viewer compare layers.npz::layer=1 layers.npz::layer=3    layers.npz: a replay with --reduction heads
  llava-viewer compare base.npz::view=mean tuned.npz::view=mean --title "Before and after"

RUN  a record, or STORE::ID for one of a store; and after :: what of it is shown, separated by commas: view=NAME,
     layer=N, head=N, grid=NAME (or its number) for one of several grids, and sequence=N for one of several answers,
     counted from 0
"""
_DEFAULT = Path("compare.html")
_NUMBERS = ("layer", "head", "sequence")
_KEY = re.compile(r",(?=(?:view|layer|head|grid|sequence)=)")
_CHOICE = re.compile(r"(?:view|layer|head|grid|sequence)=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `compare`."""
    parser.set_defaults(run=compare)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=_run, help="RUN.npz, or RUN.npz::view=NAME,layer=N")
    parser.add_argument("-o", "--output", type=Path, default=_DEFAULT, help="default: %(default)s")
    parser.add_argument("--title", help="the heading (default: the questions)")
    parser.add_argument("--no-image", action="store_true", help="leave the image out")
    add_force(parser)


def compare(arguments: argparse.Namespace) -> None:
    """Renders the comparison."""
    from llava_viewer.pages.compare import Pick, render_compare

    outputs = Outputs([path for path, _ in arguments.runs], force=arguments.force)
    outputs.claim("--output", arguments.output, COMPARISON, own=arguments.output == _DEFAULT)
    picks = []
    for (path, chosen), own in zip(arguments.runs, names_of([path for path, _ in arguments.runs]), strict=True):
        sequence = chosen.pop("sequence", 0)
        name = f"{own}, answer {sequence}" if sequence else own
        record = read_record(path).sequence(sequence)
        with_pictures_of(record, None)  # says what is wrong with the record's own
        picks.append(Pick(record, name, **chosen))
    html = render_compare(picks, title=arguments.title, embed_image=not arguments.no_image)
    outputs.write(arguments.output, html.encode("utf-8"))
    outputs.name(arguments.output)


def _run(text: str) -> tuple[Path, dict[str, str | int]]:
    """A path or STORE::ID, and what is shown of it; a file whose own name holds :: is taken at its name."""
    if Path(text).is_file() or "::" not in text:
        return Path(text), {}
    if in_store(Path(text)) and not _CHOICE.match(text.rpartition("::")[2]):
        return Path(text), {}
    name, _, rest = text.rpartition("::")
    chosen: dict[str, str | int] = {}
    for part in _KEY.split(rest):
        key, equals, value = part.partition("=")
        number = key in _NUMBERS
        if key not in ("view", "grid", *_NUMBERS) or not equals or key in chosen or (number and not value.isdecimal()):
            raise argparse.ArgumentTypeError(
                f"got {part!r} in {text!r}, expected view=NAME, layer=N, head=N, grid=NAME and sequence=N, once each"
            )
        chosen[key] = int(value) if number else value
    return Path(name), chosen
