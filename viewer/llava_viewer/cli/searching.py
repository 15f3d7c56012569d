"""The command `heads`: questions of one's own -> which heads show what words are about -> a table and named sets.

Flow: files -> questions, checked as a whole -> a server, asked one after another -> table on stdout, heads.json.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_eval.criterion import CRITERIA, Criterion, criterion
from llava_viewer.cli import reaching
from llava_viewer.cli.console import UsageError, json_text, one_line, printable, say
from llava_viewer.cli.outputs import Outputs, add_force
from llava_viewer.cli.selection import parameter, parameters
from llava_viewer.client.base import Client
from llava_viewer.files import HEADS
from llava_viewer.heads.questions import Question, QuestionsError, read_questions
from llava_viewer.heads.search import QUESTION_ROWS, Search, Wanted
from llava_viewer.heads.sets import document, encoded
from llava_viewer.heads.table import lines
from llava_wire.errors import RequestError
from llava_wire.record import Record

EXAMPLES = """examples:
  llava-viewer heads birds.jsonl -o heads.json
  llava-viewer heads scenes.jsonl --kind colour=red,green,blue --kind shape=star,cross -o heads.json
  llava-viewer heads runs/ --by agreement

DATA  JSON lines, {"image": "cat.jpg", "prompt": "Describe the image.", "boxes": {"black cat": [x0, y0, x1, y1]}}, with
      paths from the file's own folder and boxes, where there are some, in px of the upright image; or {"record":
      "run.npz", "boxes": ...}; or runs (.npz), folders of them, or the store of a run, with the boxes of its data. A
      phrase counts where the answer holds it.
Without --kind the kinds are: phrase, first and last (a phrase with a box as a whole, its first and its last word), and
word (every word that needs the image). Without --by: pointing where there are boxes, and agreement; with --rows
question pointing and localization. `llava-viewer criteria` says what they are.
"""
_KIND = re.compile(r"([A-Za-z][\w.-]*)=(.+)")
_SHOWN_PROBLEMS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `heads`."""
    parser.set_defaults(run=heads)
    parser.add_argument(
        "data", nargs="+", type=Path, metavar="DATA", help="a file of JSON lines, runs, or their folder"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="heads.json", help="where the named sets of heads go")
    parser.add_argument("--json", action="store_true", help="print what the file holds, for programs")
    add_force(parser)
    how = parser.add_argument_group("how to judge")
    how.add_argument("--kind", type=_kind, action="append", default=[], metavar="NAME=WORD,WORD",
                     help="judge by these words alone, and call them so; repeatable")  # fmt: skip
    how.add_argument("--by", action="append", default=[], metavar="CRITERION", help="one of `criteria`; repeatable")
    how.add_argument("--parameter", type=parameter, action="append", metavar="NAME=VALUE",
                     help="of the criterion, where there is one --by; repeatable")  # fmt: skip
    how.add_argument(
        "--rows",
        choices=("answer", "question"),
        default="answer",
        help="answer: the rows of the words (default); question: its last token's, with a warning",
    )
    how.add_argument(
        "--top", type=_top, metavar="N", help="heads of each set (default: those as good as the best, 4 at most)"
    )
    how.add_argument("--every-word", action="store_true", help="judge by words that do not need the image, too")
    reaching.add_arguments(parser, "the only one that it serves")
    answer = parser.add_argument_group("how to answer")
    answer.add_argument("--max-new-tokens", type=int, metavar="N", help="answers end here at the latest")
    answer.add_argument(
        "--template", help="chat: prompts are questions; raw: whole prompts, with roles and one <image>"
    )


def heads(arguments: argparse.Namespace) -> None:
    """Asks the questions, prints the heads in order, and writes the sets."""
    kinds = _kinds(arguments.kind)
    questions, notes = _questions(arguments.data)
    criteria = _criteria(arguments, questions)
    inputs = [*arguments.data, *(path for one in questions for path in (one.image, one.record))]
    outputs = Outputs((*inputs, arguments.key_file, arguments.ca_file), force=arguments.force)
    outputs.claim("--output", arguments.output, HEADS)
    say(f"{len(questions)} question{'' if len(questions) == 1 else 's'}, by {', '.join(criteria)}")
    if arguments.rows == "question":
        say(f"warning: {QUESTION_ROWS}")
    answers = {"max_new_tokens": arguments.max_new_tokens, "template": arguments.template}
    options = {name: value for name, value in answers.items() if value is not None}
    wanted = Wanted(criteria, arguments.rows, kinds, arguments.every_word, arguments.top, options)
    with _Server(arguments) as server:
        try:
            found = Search(server, wanted, lambda line: say(one_line(line))).run(questions, notes)
        except RequestError as error:
            raise _told(error) from error
    for note in found.notes:
        if note != QUESTION_ROWS:  # told before anything was asked
            say(f"note: {one_line(note)}")
    told = document(found, arguments.top)
    print(json_text(told) if arguments.json else printable("\n".join(map(one_line, lines(found)))))
    if arguments.output:
        outputs.write(arguments.output, encoded(told))


class _Server:
    """The server that the arguments name, found when it is first needed: runs may hold all that there is to know."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._client: Client | None = None

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def _reached(self, preferred: str | None = None) -> Client:
        if self._client is None:
            where = reaching.destination(self._arguments, preferred)
            say(one_line(f"asking {where}"))
            self._client = where.client(self._arguments)
        return self._client

    def predict(self, image: Path, prompt: str, options: Mapping[str, Any]) -> Record:
        """See `llava_viewer.heads.asking.Asks`."""
        return self._reached().predict(image, prompt, options, keep_picture=False)

    def replay(self, record: Record, options: Mapping[str, Any], *, image: Path | None) -> Record:
        """See `llava_viewer.heads.asking.Asks`."""
        client = self._reached(record.facts.model.name)
        return client.replay(record, options, image=image, keep_picture=False)


def _questions(paths: Sequence[Path]) -> tuple[list[Question], list[str]]:
    """The questions; of several lines that are wrong, each is told."""
    try:
        return read_questions(paths)
    except QuestionsError as error:
        for problem in error.problems[1:_SHOWN_PROBLEMS]:
            say(f"error: {one_line(problem)}")
        if len(error.problems) > _SHOWN_PROBLEMS:
            say(f"error: {len(error.problems) - _SHOWN_PROBLEMS} more lines are wrong")
        raise


def _criteria(arguments: argparse.Namespace, questions: Sequence[Question]) -> dict[str, Criterion]:
    """The criteria that were named, or those that there is something to judge by for.

    Raises:
        UsageError: one that needs what there is not.
        DoorError: one that there is not, or a parameter.
    """
    has_boxes = any(one.boxes for one in questions)
    default = ["pointing"] if has_boxes else []
    default += ["localization"] if arguments.rows == "question" else ["agreement"]
    named = list(dict.fromkeys(arguments.by)) or default
    if arguments.parameter and len(arguments.by) != 1:
        raise UsageError("--parameter: got it without one --by, expected the criterion that it belongs to; name it")
    for name in named:
        traits = CRITERIA.find(name, "--by").traits
        if traits.get("needs_boxes") and not has_boxes:
            raise UsageError(f"--by {name}: got no boxes, expected a line with some; add boxes, or leave {name} out")
        if traits.get("needs_contributions") and arguments.rows == "question":
            raise UsageError(
                f"--by {name}: got rows of the question, expected those of the answer, whose words have a logit; "
                "leave one of them out"
            )
    given = arguments.parameter or ()
    return {name: criterion(name, parameters(CRITERIA, name, given)) for name in named}


def _kinds(given: Sequence[tuple[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    kinds = dict(given)
    if len(kinds) < len(given):
        raise UsageError("--kind: got a name twice, expected each once; put all its words behind one")
    return kinds


def _told(error: RequestError) -> Exception:
    """The refusal, with what to do about it here."""
    if error.field.startswith("options.") and "method" in error.field:
        return UsageError(
            f"--by agreement: got {error}; judge --by pointing or --by localization, which take attention"
        )
    return error


def _kind(text: str) -> tuple[str, frozenset[str]]:
    found = _KIND.fullmatch(text)
    words = [word.strip().casefold() for word in found[2].split(",")] if found else []
    if found is None or not all(words):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected NAME=WORD,WORD")
    return found[1], frozenset(words)


def _top(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected a number of heads, 1 or more")
    return int(text)
