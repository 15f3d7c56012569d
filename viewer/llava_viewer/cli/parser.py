"""The command's arguments.

Flow: argv -> namespace with `run`, the command's function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llava_viewer.cli import commands, comparing, exporting, finding, listing, reaching, searching
from llava_viewer.cli.dataset import evaluating, kubernetes, running, slurm, tables
from llava_viewer.cli.files import add_pictures, picture_path
from llava_viewer.cli.outputs import add_force
from llava_viewer.cli.selection import add_how, add_what, checks, indices
from llava_viewer.judging import DEFAULT_RULE, RULES
from llava_viewer.version import package_version

_EXAMPLES = """examples:
  llava-viewer predict cat.jpg "What is on the sofa?" -o run.npz --report run.html
  llava-viewer predict cat.jpg "Describe the image." --grpc --heads 2.4,0.5 -o run.npz
  llava-viewer replay run.npz --layers all --heads all --reduction heads -o layers.npz
  llava-viewer check run.npz -o checked.npz
  llava-viewer annotate run.npz --expected "a cat" --rule contains --tag pets -o judged.npz
  llava-viewer inspect run.npz
  llava-viewer render run.npz -o run.html
  llava-viewer index runs/
  llava-viewer compare red.npz blue.npz -o compare.html
  llava-viewer export run.npz -o figures/ --as png,svg,csv
  llava-viewer heads birds.jsonl -o heads.json
  llava-viewer run images/ --prompt "Describe the image." -o out/
  llava-viewer table out/ --csv
  llava-viewer evaluate out/ --truth boxes.json
"""
_PREDICT_EXAMPLES = """examples:
  llava-viewer predict cat.jpg "What is on the sofa?"
  llava-viewer predict cat.jpg "Where is it?" --name mine -o run.npz --report run.html
  llava-viewer predict before.jpg after.jpg "What differs?" -o run.npz
  llava-viewer predict cat.jpg "Where is it?" --url http://127.0.0.1:8080/predictions/llava-things
  llava-viewer predict cat.jpg "Where is it?" --layers 0-3 --heads all --reduction none --precision float32 -o run.npz
  llava-viewer predict cat.jpg "What is it?" --expected cat --rule contains --tag pets -o run.npz
  llava-viewer predict cat.jpg "Where is it?" -o run.npz \\
      --view name=mean,layers=all,heads=all --view name=pointing,heads=2.4,0.5,reduction=none

LAYERS, STEPS  all, or numbers counted from 0: 0,1,2 or 0-3
HEADS          the same, LAYER.HEAD pairs (2.4,0.5), the name of one of the model's head sets, or FILE.json#NAME, a set
               that `llava-viewer heads` wrote
Without an address the server is one of this machine: --name, else LLAVA_GAZE_SERVER, else the one that runs.
The model is --model, else that of the address or the only one of that server, else LLAVA_GAZE_MODEL, else llava-things.
The token is --token, else --key-file (read afresh for every request), else the environment's LLAVA_GAZE_TOKEN, else the
key file of the server of this machine.
"""
_RENDER_EXAMPLES = """examples:
  llava-viewer render run.npz -o run.html
  llava-viewer render run.npz --open "t=4&view=mean&box=83,20,140,77" -o run.html
  llava-viewer render seed-1.npz seed-2.npz seed-3.npz --open n=2 -o answers.html
"""
_CHECKS = """examples:
  llava-viewer check run.npz -o checked.npz
  llava-viewer check run.npz --view contributions --steps 3,5 --report checked.html
  llava-viewer check old.npz --check image --image cat.jpg -o new.npz

The answer is replayed with the checks, which `llava-viewer checks` lists.
"""

_ANNOTATE = """examples:
  llava-viewer annotate run.npz --expected "A red circle, next." -o judged.npz
  llava-viewer annotate run.npz --wrong --tag "left and right" -o judged.npz --report judged.html

The record is written with what you say of its answer; its report shows it, and an index filters by it. What was said
before stays unless it is said anew; tags are added.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of llava-viewer."""
    parser = argparse.ArgumentParser(
        prog="llava-viewer",
        description="Ask a LLaVA server where it looked, and read, render and export what it answered.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    commands_ = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _predict(commands_)
    _replay(commands_)
    _check(commands_)
    _annotate(commands_)
    _render(commands_)
    _index(commands_)
    _inspect(commands_)
    _export(commands_)
    comparing.add_arguments(
        _add(commands_, "compare", "lay two to four runs on one image side by side", comparing.EXAMPLES)
    )
    finding.add_arguments(_add(commands_, "find", "tell which words or heads looked at a box", finding.EXAMPLES))
    searching.add_arguments(
        _add(
            commands_, "heads", "find the heads that show what words are about, on your own images", searching.EXAMPLES
        )
    )
    running.add_arguments(
        _add(commands_, "run", "ask about many images, and keep the answers in a store", running.EXAMPLES)
    )
    tables.add_arguments(
        _add(commands_, "table", "write the table of a store, and tell what came out", tables.EXAMPLES)
    )
    slurm.add_arguments(
        _add(commands_, "slurm", "print a job script that works on a run with many tasks at a time", slurm.EXAMPLES)
    )
    kubernetes.add_arguments(
        _add(
            commands_, "kubernetes", "print a manifest of a job that works on a run with many pods", kubernetes.EXAMPLES
        )
    )
    evaluating.add_arguments(
        _add(commands_, "evaluate", "score a store against what is known of its images", evaluating.EXAMPLES)
    )
    for name, (_, text) in listing.LISTED.items():
        listing.add_arguments(_add(commands_, name, text, f"example:\n  llava-viewer {name} --json"), name)
    return parser


def _add(
    group: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, epilog: str
) -> argparse.ArgumentParser:
    return group.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _predict(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(group, "predict", "ask one question about an image; the answer goes to stdout", _PREDICT_EXAMPLES)
    parser.set_defaults(run=commands.predict)
    parser.add_argument(
        "image",
        type=picture_path,
        nargs="+",
        metavar="IMAGE",
        help="an image file; several for a model that takes them",
    )
    parser.add_argument("prompt", metavar="PROMPT", help="the question, behind the images")
    parser.add_argument(
        "--image",
        dest="further",
        type=picture_path,
        action="append",
        metavar="FILE",
        help="a further image, as if it stood behind the others; repeatable",
    )
    _output(parser).add_argument(
        "--format",
        choices=("npz", "json"),
        default="npz",
        help="json: the server's JSON as it came (default: %(default)s)",
    )
    parser.add_argument("--stream", action="store_true", help="print the answer as it comes (over HTTP)")
    reaching.add_arguments(parser, "the only one that it serves")
    add_what(parser)
    add_how(parser)
    _said(parser)


def _replay(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group,
        "replay",
        "ask for other views of a record's answer, without generating it again",
        "examples:\n  llava-viewer replay run.npz --layers all --heads all --reduction heads -o layers.npz\n"
        "  llava-viewer replay out::q1 --engine llava-things --reduction none -o heads.npz",
    )
    parser.set_defaults(run=commands.replay)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    add_pictures(parser)
    _sequence(parser)
    _output(parser)
    reaching.add_arguments(parser, "the record's, where it is served")
    add_what(parser)


def _check(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(group, "check", "test the answer that a record holds; nothing else of the record changes", _CHECKS)
    parser.set_defaults(run=commands.check)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    add_pictures(parser)
    _sequence(parser)
    what = parser.add_argument_group("what to test")
    what.add_argument(
        "--check",
        type=checks,
        metavar="NAMES",
        help="image, patches, both, or JSON (default: patches, and image where the record does not tell it)",
    )
    what.add_argument("--view", metavar="NAME", help="whose maps name the patches (default: the first with one a word)")
    what.add_argument("--steps", type=indices, help="which words: all, or tokens from 0: 0,1,2 or 0-3")
    what.add_argument("--top", type=int, metavar="N", help="how many patches (default: a sixteenth of them)")
    what.add_argument("--sets", type=int, metavar="N", help="random sets (default: 16)")
    what.add_argument("--seed", type=int, metavar="N", help="of the random sets (default: 0)")
    _output(parser, images=False)
    reaching.add_arguments(parser, "the record's, where it is served")


def _annotate(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(group, "annotate", "say whether a record's answer is right, and tag it", _ANNOTATE)
    parser.set_defaults(run=commands.annotate)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    _sequence(parser)
    said = _said(parser)
    verdict = said.add_mutually_exclusive_group()
    verdict.add_argument("--right", action="store_true", default=None, help="your own verdict, whatever the rule says")
    verdict.add_argument("--wrong", dest="right", action="store_false", help="the same")
    _output(parser, images=False)


def _said(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    said = parser.add_argument_group("what you say of the answer, kept in the record as its annotations")
    said.add_argument("--expected", metavar="TEXT", help="the answer that you expect; told is right or wrong")
    said.add_argument(
        "--rule",
        choices=tuple(RULES),
        help="exact: the same text; contains: TEXT stands in the answer as whole words, in either case "
        f"(default: {DEFAULT_RULE})",
    )
    said.add_argument("--tag", action="append", metavar="WORD", help="to find the record by; repeatable")
    return said


def _sequence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sequence", type=int, default=0, metavar="N", help="which of a record's answers, counted from 0"
    )


def _output(parser: argparse.ArgumentParser, *, images: bool = True) -> argparse._ArgumentGroup:
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--output", type=Path, metavar="RUN.npz", help="where the record goes")
    out.add_argument("--report", type=Path, metavar="RUN.html", help="render a report as well")
    if images:
        out.add_argument("--no-image", action="store_true", help="leave the image out of the record and the report")
    add_force(out)
    return out


def _render(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(group, "render", "turn a record into one HTML file", _RENDER_EXAMPLES)
    parser.set_defaults(run=commands.render)
    parser.add_argument(
        "record", type=Path, nargs="+", metavar="RUN.npz", help="one, or several of one question: a switch between them"
    )
    parser.add_argument(
        "--sequence", type=int, metavar="N", help="one of a record's answers alone, counted from 0 (default: all)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="RUN.html", help="default: the record's name with .html")
    parser.add_argument(
        "--open", default="", metavar="STATE", help="what the report shows first, as its address has it after the #"
    )
    picture = parser.add_mutually_exclusive_group()
    add_pictures(picture)
    picture.add_argument("--no-image", action="store_true", help="leave the image out")
    add_force(parser)


def _index(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group, "index", "write a page that lists a folder's records and reports", "example:\n  llava-viewer index runs/"
    )
    parser.set_defaults(run=listing.index)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--title", default="Runs", help="the heading (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="read every record again, also unchanged ones")
    add_force(parser)


def _inspect(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group, "inspect", "print what a record holds", "example:\n  llava-viewer inspect run.npz --json | jq .tokens"
    )
    parser.set_defaults(run=commands.inspect)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    parser.add_argument("--json", action="store_true", help="for programs")


def _export(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(group, "export", "write figures, animations and numbers of a record", exporting.EXAMPLES)
    exporting.add_arguments(parser)
    _sequence(parser)
