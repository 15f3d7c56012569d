"""The command `run`: many images, one store of records; stopped and started as often as it takes.

Flow: DATA -> items, checked -> a server or an engine -> a `Worker` -> parts -> table.parquet, and what came out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from llava_viewer.cli import reaching
from llava_viewer.cli.commands import check_heads, options_of
from llava_viewer.cli.console import UsageError, count_of, counted, one_line, say, size
from llava_viewer.cli.dataset.tables import keep_table
from llava_viewer.cli.selection import add_how, add_what
from llava_viewer.data.columns import FIELDS
from llava_viewer.data.items import Item, check_images, digest_of, items_of
from llava_viewer.data.kind import Data
from llava_viewer.data.reading import read_data
from llava_viewer.judging import DEFAULT_RULE, RULES
from llava_viewer.runs.asking import Asks
from llava_viewer.runs.claims import STALE_S, Claims
from llava_viewer.runs.engine import PipedEngine
from llava_viewer.runs.on_ray import spread
from llava_viewer.runs.serving import MOST_IN_FLIGHT, Served
from llava_viewer.runs.told import Progress, duration
from llava_viewer.runs.trial import tried
from llava_viewer.runs.work import CLAIMS, Worker, check_parts
from llava_viewer.store.about import About, begun, model_of
from llava_viewer.store.store import part_path
from llava_wire.errors import RequestError

EXAMPLES = """examples:
  llava-viewer run images/ --prompt "Describe the image." -o out/
  llava-viewer run questions.jsonl --column prompt=question --column expected=answer --rule contains -o out/
  llava-viewer run instances.json --images val2017/ --prompt "What is in the image?" --engine llava-things -o out/
  llava-viewer run "shards-{000..011}.tar" --column prompt=txt -o out/
  llava-viewer run questions.csv -o out/ --dry-run

DATA  JSON lines, CSV, TSV or Parquet with a column of images' paths (from the file's own folder, or --images); a COCO
      file, whose boxes become the truth; a folder of images; WebDataset's tars (one, a folder, shards-{000..011}.tar);
      a folder that Hugging Face's datasets saved, or one of Parquet: images inside files are read in place. Columns are
      recognised by their names, which is told; --column says otherwise. A column of prompts may hold lists; --prompt
      asks about every image that brings none.
The same command goes on with what is there: after Ctrl-C, kill -9, a full disk, a reboot. Started several times, also
on several machines that share the folder, the workers share the work. A record is then named OUT::ID.
"""
NO_RULE = "none"
"""The rule that judges nothing."""
DEFAULT_CHUNK = 256
"""Items of a part: what a kill costs at most; a million items in 3,907 files; and whole groups of the engine."""
_RETRY_S = 600.0
_QUIET_S = 15.0
"""How long a request is sent again without a word; from then on the run tells that it waits."""
_COLUMN = re.compile(r"([a-z]+)=(.*)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.set_defaults(run=run)
    parser.add_argument("data", type=Path, metavar="DATA", help="a file or folder; see below")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the folder of the store")
    parser.add_argument(
        "--dry-run", action="store_true", help="ask a few items, tell what all would take, keep nothing"
    )
    data = parser.add_argument_group("what to ask")
    data.add_argument("--prompt", action="append", default=[], metavar="TEXT",
                      help="asked about every image that brings no prompt; repeatable")  # fmt: skip
    data.add_argument("--images", type=Path, metavar="DIR", help="the folder that images' paths count from")
    data.add_argument("--column", type=_column, action="append", default=[], metavar="MEANING=NAME",
                      help=f"which column is {', '.join(FIELDS)}; repeatable; no NAME for none")  # fmt: skip
    data.add_argument("--limit", type=count_of, metavar="N", help="the first N items alone")
    data.add_argument("--rule", choices=(*RULES, NO_RULE),
                      help=f"judge answers that come with the expected one (default: {DEFAULT_RULE})")  # fmt: skip
    data.add_argument(
        "--chunk", type=count_of, default=DEFAULT_CHUNK, metavar="N", help="items of a part (%(default)s)"
    )
    data.add_argument("--keep-images", action="store_true", help="keep the images in the records, too")
    engine = reaching.add_arguments(parser, "the only one that it serves")
    parser.add_argument("--in-flight", type=_flight, metavar="N",
                        help="requests at a time (default: as many as bring more answers)")  # fmt: skip
    parser.set_defaults(retry=_RETRY_S)
    engine.add_argument("--ray", type=count_of, nargs="?", const=0, metavar="N",
                        help="on the Ray cluster: N workers (default: one on each GPU)")  # fmt: skip
    engine.add_argument("--stale", type=count_of, default=round(STALE_S), metavar="SECONDS",
                        help="take over from a machine that was silent for so long (%(default)s)")  # fmt: skip
    engine.add_argument("--worker", type=_worker, metavar="NAME",
                        help="of this worker alone: what an earlier one of it had begun is taken over")  # fmt: skip
    add_what(parser)
    add_how(parser)


def run(arguments: argparse.Namespace) -> None:
    """Asks about everything that is not done yet, and tells what came out."""
    items, data = _items(arguments)
    options = options_of(arguments)
    about = About(
        data=arguments.data.resolve(), images=data.images.resolve(), digest=digest_of(items), items=len(items),
        chunk=arguments.chunk, options=json.loads(json.dumps(options)), asked=_asked(arguments),
        rule=rule_of(arguments.rule, items), pictures=arguments.keep_images,
    )  # fmt: skip
    if arguments.dry_run:
        with closing(_asks(arguments, options, about)) as asks:
            _estimate(items, asks)
        return
    begun(arguments.output, about)
    done = check_parts(arguments.output, about, items)
    say(f"{done:,} of {len(items):,} are there already" if done else f"keeping records in {arguments.output}")
    if done < len(items):
        if arguments.ray is None:
            _work(arguments, about, items, done, options)
        else:
            _spread(arguments, about, items, options)
    keep_table(arguments.output, sys.stdout)


def _work(
    arguments: argparse.Namespace,
    about: About,
    items: list[Item],
    done: int,
    options: Mapping[str, Any],
    told: Callable[[str], None] = lambda line: say(one_line(line)),
) -> None:
    progress = Progress(len(items), done, told)

    def begins(line: str) -> None:
        told(line)
        progress.begin()  # what came before it was loading, or waiting

    asking = closing(_asks(arguments, options, about, begins))
    with asking as asks, Claims(arguments.output / CLAIMS, arguments.stale, arguments.worker or "") as claims:
        try:
            Worker(arguments.output, about, items, asks, claims, progress.row).run()
        except RequestError as error:
            again = "" if error.code == "invalid" else "; what is finished stays, and the same command goes on"
            raise _Stopped(f"{error}{again}") from error
        finally:
            told(progress.line())
    if claims.others:
        who = ", ".join(sorted(set(claims.others.values())))
        left = "should they end before it is made, start the same command again"
        say(one_line(f"left to others ({who}): {counted(len(claims.others), 'part')}; {left}"))
    say(f"the model: {model_of(arguments.output)}")


def _spread(arguments: argparse.Namespace, about: About, items: list[Item], options: Mapping[str, Any]) -> None:
    """The same work by actors on a Ray cluster; what they need to know is sent to each."""

    def far() -> str:
        made = sum(part_path(arguments.output, number).exists() for number in range(about.chunks))
        return f"{made:,} of {about.chunks:,} parts"

    work = partial(_work, arguments, about, items, 0, options, lambda line: None)
    spread(work, arguments.ray or None, far, lambda line: say(one_line(line)))


class _Stopped(ValueError):
    """A run that could not go on."""


def _asks(
    arguments: argparse.Namespace,
    options: Mapping[str, Any],
    about: About,
    told: Callable[[str], None] = lambda line: say(one_line(line)),
) -> Asks:
    if (command := reaching.engine_of(arguments)) is not None:
        return PipedEngine(command, options, about.images, told)
    where = reaching.destination(arguments)
    check_heads(options, where)
    told(f"asking {where}")
    return Served(
        where.client(arguments, _QUIET_S),
        options,
        about.images,
        budget_s=arguments.retry,
        in_flight=arguments.in_flight,
        say=told,
    )


def _asked(arguments: argparse.Namespace) -> str:
    """What answers, as the store's fingerprint has it."""
    if arguments.ray is not None and arguments.worker:
        raise UsageError("--worker: got it beside --ray, which starts several, expected one of both; leave it out")
    if reaching.engine_of(arguments) is None:
        if arguments.ray is not None:
            raise UsageError("--ray: got it without --engine, expected both; a server takes what one worker sends")
        return "server"
    return f"engine {arguments.dtype or ''}".strip()


def _items(arguments: argparse.Namespace) -> tuple[list[Item], Data]:
    """What is asked, told as it was understood."""
    data = read_data(arguments.data, dict(arguments.column), arguments.images)
    items = items_of(data.entries, arguments.prompt, arguments.limit)
    if arguments.prompt and not any(item.prompt in arguments.prompt for item in items):
        raise UsageError(
            "--prompt: got it for data whose every item has a prompt of its own, expected images without one; leave "
            "out --prompt, or the data's prompts (--column prompt=)"
        )
    check_images(items, data.images)
    meant = ", ".join(f"{meaning} = {name!r}" for meaning, name in data.columns.items())
    say(one_line(f"{counted(len(items), 'item')} of {data.kind}{': ' if meant else ''}{meant}"))
    return items, data


def rule_of(given: str | None, items: Sequence[Item]) -> str:
    """By what answers are judged; "" where nothing is expected of them.

    Args:
        given: the rule that was named, if one was.
        items: all of the run.

    Raises:
        UsageError: a rule was named, and no item has an expected answer.
    """
    judged = any(item.expected for item in items)
    if not judged and given in RULES:
        raise UsageError("--rule: got no expected answer, expected a column of them; name it (--column expected=NAME)")
    return (given or DEFAULT_RULE) if judged and given != NO_RULE else ""


def _estimate(items: list[Item], asks: Asks) -> None:
    trial = tried(items, asks)
    if trial.first:
        say(one_line(f"warning: {trial.failed} of {trial.asked} items have an error, such as {trial.first}"))
    print(f"asked     {trial.asked} of {len(items):,} items, each twice")
    print(f"time      {trial.item_s:.3g} s an item, {duration(trial.item_s * len(items))} for all, with one worker")
    print(
        f"records   {size(round(trial.item_bytes))} an item with its row, {size(round(trial.item_bytes * len(items)))}"
    )


def _column(text: str) -> tuple[str, str]:
    found = _COLUMN.fullmatch(text)
    if found is None or found[1] not in FIELDS:
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected MEANING=NAME, of {', '.join(FIELDS)}")
    return found[1], found[2]


def _worker(text: str) -> str:
    if not re.fullmatch(r"[\w.:/-]{1,200}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected up to 200 letters, digits and . _ : / -")
    return text


def _flight(text: str) -> int:
    number = count_of(text)
    if number > MOST_IN_FLIGHT:
        raise argparse.ArgumentTypeError(f"got {number}, expected up to {MOST_IN_FLIGHT}")
    return number
