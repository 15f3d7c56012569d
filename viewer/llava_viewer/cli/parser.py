"""The command's arguments.

Flow: argv -> namespace with `run`, the command's function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llava_viewer.cli import commands, comparing, exporting, listing, reaching
from llava_viewer.cli.outputs import add_force
from llava_viewer.cli.selection import heads, indices, parameter, view
from llava_viewer.version import package_version

_EXAMPLES = """examples:
  llava-viewer predict cat.jpg "What is on the sofa?" -o run.npz --report run.html
  llava-viewer predict cat.jpg "Describe the picture." --grpc --heads 2.4,0.5 -o run.npz
  llava-viewer replay run.npz --layers all --heads all --reduction heads -o layers.npz
  llava-viewer inspect run.npz
  llava-viewer render run.npz -o run.html
  llava-viewer index runs/
  llava-viewer compare red.npz blue.npz -o compare.html
  llava-viewer export run.npz -o figures/ --as png,svg,csv
"""
_PREDICT_EXAMPLES = """examples:
  llava-viewer predict cat.jpg "What is on the sofa?"
  llava-viewer predict cat.jpg "Where is it?" --name mine -o run.npz --report run.html
  llava-viewer predict cat.jpg "Where is it?" --url http://127.0.0.1:8080/predictions/llava-shapes
  llava-viewer predict cat.jpg "Where is it?" --layers 0-3 --heads all --reduction none --precision float32 -o run.npz
  llava-viewer predict cat.jpg "Where is it?" -o run.npz \\
      --view name=mean,layers=all,heads=all --view name=pointing,heads=2.4,0.5,reduction=none

LAYERS, STEPS  all, or numbers counted from 0: 0,1,2 or 0-3
HEADS          the same, LAYER.HEAD pairs (2.4,0.5), or the name of one of the model's head sets
Without an address the server is one of this machine: --name, else LLAVA_GAZE_SERVER, else the one that runs.
The token is --token, else --key-file (read afresh for every request), else the environment's LLAVA_GAZE_TOKEN, else the
key file of the server of this machine.
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
    _render(commands_)
    _index(commands_)
    _inspect(commands_)
    _export(commands_)
    comparing.add_arguments(
        _add(commands_, "compare", "lay two to four runs on one picture side by side", comparing.EXAMPLES)
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
    parser = _add(group, "predict", "ask one question about one picture; the answer goes to stdout", _PREDICT_EXAMPLES)
    parser.set_defaults(run=commands.predict)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture file")
    parser.add_argument("prompt", metavar="PROMPT", help="the question")
    _output(parser).add_argument(
        "--format",
        choices=("npz", "json"),
        default="npz",
        help="json: the server's JSON as it came (default: %(default)s)",
    )
    parser.add_argument("--stream", action="store_true", help="print the answer as it comes (over HTTP)")
    reaching.add_arguments(parser, "the only one that it serves")
    _what(parser)
    how = parser.add_argument_group("how to answer")
    how.add_argument("--max-new-tokens", type=int, metavar="N", help="the answer ends here at the latest")
    how.add_argument("--template", help="chat: PROMPT is a question; raw: the whole prompt, roles and one <image>")
    how.add_argument("--temperature", type=float, metavar="T", help="sample instead of taking the most probable token")
    how.add_argument("--top-p", type=float, metavar="P", help="sample among the likeliest tokens that make up P")
    how.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    how.add_argument("--seed", type=int, metavar="N", help="of the samples: the same seed draws the same answer")
    how.add_argument("--deadline-ms", type=int, metavar="MS", help="stop after so long and give what is there")
    how.add_argument("--num-beams", type=int, metavar="N", help="beam search")
    how.add_argument("--length-penalty", type=float, metavar="P", help="of beams: above 0 favours longer answers")
    how.add_argument("--num-return-sequences", type=int, metavar="N", help="several answers: beams, or samples")


def _replay(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group,
        "replay",
        "ask for other views of a record's answer, without generating it again",
        "example:\n  llava-viewer replay run.npz --layers all --heads all --reduction heads -o layers.npz",
    )
    parser.set_defaults(run=commands.replay)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the picture, for a record that carries none")
    _sequence(parser)
    _output(parser)
    reaching.add_arguments(parser, "the record's, where it is served")
    _what(parser)


def _sequence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sequence", type=int, default=0, metavar="N", help="which of a record's answers, counted from 0"
    )


def _output(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--output", type=Path, metavar="RUN.npz", help="where the record goes")
    out.add_argument("--report", type=Path, metavar="RUN.html", help="render a report as well")
    out.add_argument("--no-image", action="store_true", help="leave the picture out of the record and the report")
    add_force(out)
    return out


def _what(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to record")
    what.add_argument("--layers", type=indices, help="all, or numbers from 0: 0,1,2 or 0-3")
    what.add_argument("--heads", type=heads, help="the same, LAYER.HEAD pairs (2.4,0.5), or a head set's name")
    what.add_argument("--reduction", help="what is averaged: none, heads, layers_heads, or all (steps too)")
    what.add_argument("--method", help="how the maps are made; `llava-viewer methods` lists them")
    what.add_argument(
        "--parameter",
        type=parameter,
        action="append",
        metavar="NAME=VALUE",
        help="of the method; repeatable",
    )
    what.add_argument(
        "--view",
        type=view,
        action="append",
        metavar="VIEW",
        help="a named selection; repeatable, instead of the five above",
    )
    what.add_argument("--steps", type=indices, help="tokens of the answer: all, or numbers from 0: 0,1,2 or 0-3")
    what.add_argument("--rows", help="whose attention: answer (its tokens), prompt (the question's), or both")
    what.add_argument("--precision", help="of the stored maps: uint8, float16 or float32")


def _render(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group, "render", "turn a record into one HTML file", "example:\n  llava-viewer render run.npz -o run.html"
    )
    parser.set_defaults(run=commands.render)
    parser.add_argument("record", type=Path, metavar="RUN.npz")
    _sequence(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="RUN.html", help="default: the record's name with .html")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--image", type=Path, metavar="FILE", help="the picture, for a record that carries none")
    picture.add_argument("--no-image", action="store_true", help="leave the picture out")
    add_force(parser)


def _index(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        group, "index", "write a page that lists a folder's records and reports", "example:\n  llava-viewer index runs/"
    )
    parser.set_defaults(run=commands.index)
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
