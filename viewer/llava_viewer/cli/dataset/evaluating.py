"""The command `evaluate`: a store against what is known of its images, in figures, a page and the worst cases' reports.

Flow: store, truth -> `evaluated` -> evaluation.json, figures.csv, index.html and reports in a folder of their own; with
another store the same of that one, and what they differ in.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from llava_eval.answers import RULES
from llava_viewer.cli import reaching
from llava_viewer.cli.console import Told, UsageError, count_of, counted, one_line, print_path, printable, say
from llava_viewer.cli.outputs import Outputs, add_force
from llava_viewer.evaluation.against import Against, against_csv, against_json, held_against
from llava_viewer.evaluation.against_page import counts_of
from llava_viewer.evaluation.asking import ITEMS, Asking
from llava_viewer.evaluation.differences import interval_of, signed, verdict_of
from llava_viewer.evaluation.page import evaluation_page
from llava_viewer.evaluation.result import RIGHT, Result, as_csv, as_json, evaluated
from llava_viewer.evaluation.scores import METRICS as USUAL
from llava_viewer.evaluation.scores import Case, Key, Wanted
from llava_viewer.evaluation.truth import Truth, read_truth
from llava_viewer.files import DIFFERENCES, EVALUATION, EVALUATION_PAGE, FIGURES, REPORT
from llava_viewer.judging import BY_HAND
from llava_viewer.pages.report import render_report
from llava_viewer.store.about import model_name_of, read_about
from llava_viewer.store.store import Store
from llava_wire.record import Record
from llava_wire.schema import Annotations

EXAMPLES = """examples:
  llava-viewer evaluate out/
  llava-viewer evaluate out/ --truth boxes.json --rule contains
  llava-viewer evaluate out/ --metric pointing_game --metric share_in_box -o scores/
  llava-viewer evaluate out/ --against other/
  llava-viewer evaluate out/ --against other/ --pair mean=selection
  llava-viewer evaluate out/ --metric insertion --metric deletion_auc --engine llava-things

The truth is what the data brought (columns `expected` and `boxes`, or a COCO file), or that of a file: COCO; JSON
lines, CSV or Parquet with these columns; or a JSON object, id or image -> phrase -> [x0, y0, x1, y1] in px of the
upright image. Answers are judged by exact, contains and vqa (which takes a list of several people's answers as
`expected`). Maps are scored at the words of each phrase that the answer holds (phrase, its first word, its last one),
and over the whole answer where boxes of one phrase alone are known; by view, method, layer, head and tag. Behind every
figure stands its 95 % interval of a bootstrap over images. Metrics that ask the model (insertion and deletion) need the
one that answered: a server, or --engine; they follow the mean map of every view at phrases with boxes, or, where none
are known, at words that need the image, and the view "even map" is what random orders score. OUT/evaluation gets
index.html, figures.csv, evaluation.json and reports of the worst cases. With --against, a run of another model, prompt
or method over the same images, every figure that both have is told with the difference and its interval (an image is
drawn for both), and which answers changed; views belong together by their names, or as --pair says. This goes to
OUT/evaluation-against-OTHER, with differences.csv.
"""
FOLDER, PAGE, TABLE, JSON, APART = "evaluation", "index.html", "figures.csv", "evaluation.json", "differences.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`."""
    parser.set_defaults(run=evaluate)
    parser.add_argument("store", type=Path, metavar="OUT", help="the folder of a run")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="boxes and expected answers (default: the data's)")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="another run over the same images")
    parser.add_argument("--pair", type=_pair, action="append", default=[], metavar="HERE=THERE",
                        help="views of other names: OUT's, and OTHER's to hold it against; repeatable")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help=f"where the results go (OUT/{FOLDER})")
    parser.add_argument(
        "--rule", choices=RULES, help="by which answers are called right (default: the run's, or exact)"
    )
    parser.add_argument("--metric", action="append", default=[], metavar="NAME",
                        help=f"of `llava-viewer metrics`; repeatable (default: {', '.join(USUAL)})")  # fmt: skip
    parser.add_argument("--blur", type=_blur, metavar="PATCHES",
                        help="of the box rule (default: 1 from grids of 16 x 16 on, else 0)")  # fmt: skip
    parser.add_argument("--reports", type=_reports, default=10, metavar="N",
                        help="reports of the N worst of each kind (%(default)s)")  # fmt: skip
    parser.add_argument("--title", help="the heading (default: Evaluation, or that it is one of two runs)")
    add_force(parser)
    parser.add_argument("--asked", type=count_of, default=ITEMS, metavar="N",
                        help="metrics that ask the model do so about N items at most (%(default)s)")  # fmt: skip
    reaching.add_arguments(parser, "that of the run")


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluates a store, prints the main figures and writes all of them."""
    metrics = tuple(dict.fromkeys(arguments.metric)) or USUAL
    truth = read_truth(arguments.truth) if arguments.truth else Truth()
    wanted = Wanted(arguments.store, truth, metrics, arguments.blur)
    other = _other(arguments.against, wanted)
    if arguments.pair and other is None:
        raise UsageError("--pair: got it without another run, expected one to hold views against; add --against")
    apart = f"{FOLDER}-against-{other.store.resolve().name[:100]}" if other else FOLDER
    folder = arguments.output or arguments.store / apart
    outputs = Outputs((arguments.truth,), force=arguments.force)
    kinds = {PAGE: EVALUATION_PAGE, TABLE: FIGURES, JSON: EVALUATION, **({APART: DIFFERENCES} if other else {})}
    for name, kind in kinds.items():
        outputs.claim("--output", folder / name, kind, own=True)
    with _asking(arguments, wanted) as asking:
        result = evaluated(wanted, arguments.rule or "", Told("part"), asking)
    against = None
    if other:
        its = evaluated(other, result.rule, Told("part of the other"))
        against = held_against(result, its, dict(arguments.pair))
    links = _write_reports(arguments, result, folder, outputs)
    outputs.write(folder / JSON, as_json(result, **({"against": against_json(against)} if against else {})))
    outputs.write(folder / TABLE, as_csv(result))
    if against:
        outputs.write(folder / APART, against_csv(against))
    title = arguments.title or (f"{against.here} against {against.name}" if against else "Evaluation")
    made = evaluation_page(result, title, links, against)
    outputs.write(folder / PAGE, made.encode("utf-8", "backslashreplace"))
    print(printable("\n".join(map(one_line, [*_lines(result), *(_against_lines(against) if against else [])]))))
    print_path(folder / PAGE)


def _other(store: Path | None, wanted: Wanted) -> Wanted | None:
    """The other run, evaluated in the same way.

    Raises:
        UsageError: it is the same run, or a metric asks a model, which did not answer both.
    """
    if store is None:
        return None
    read_about(store)
    if store.resolve() == wanted.store.resolve():
        raise UsageError(f"--against: got {store}, the run itself, expected another one over the same images; name it")
    if wanted.asking:
        raise UsageError(
            f"--against: got it with {wanted.asking[0]}, which asks the model, expected metrics of maps alone; "
            "evaluate the runs one by one with it"
        )
    return replace(wanted, store=store)


@contextmanager
def _asking(arguments: argparse.Namespace, wanted: Wanted) -> Iterator[Asking | None]:
    """The model, where a metric asks it.

    Raises:
        UsageError: a model that no metric asks, or arguments of a server beside an engine.
    """
    reaching.check_engine(arguments)
    if not wanted.asking:
        named = [name for name in ("engine", "url", "grpc") if getattr(arguments, name) is not None]
        if named:
            raise UsageError(
                f"--{named[0]}: got it with metrics of maps alone, expected one that asks the model (--metric)"
            )
        yield None
        return
    where = reaching.destination(arguments, model_name_of(arguments.store))
    say(one_line(f"asking {where}"))
    with where.client(arguments) as client:
        yield Asking(partial(client.replay, keep_picture=False), arguments.asked, Told("item asked about"))


def _write_reports(arguments: argparse.Namespace, result: Result, folder: Path, outputs: Outputs) -> dict[str, str]:
    """Reports of the worst cases, and links to them by id."""
    cases = [*result.wrong[: arguments.reports], *result.astray[: arguments.reports]]
    links: dict[str, str] = {}
    with Store(arguments.store) as store:
        for case in {case.id: case for case in cases}.values():
            # Numbered, for an id may be no file's name.
            name = f"worst-{len(links) + 1:02}.html"
            outputs.claim("--output", folder / name, REPORT, own=True)
            judged = _judged(store.record(case.id), case, result.rule)
            outputs.write(folder / name, render_report(judged).encode("utf-8"), told=False)
            links[case.id] = f"./{name}"
    if links:
        over = outputs.over(folder / name for name in links.values())
        say(one_line(f"wrote {counted(len(links), 'report')} of the worst cases: {folder}/worst-*.html{over}"))
    return links


def _judged(record: Record, case: Case, rule: str) -> Record:
    """The record with what the evaluation found of its answer; a person's verdict stays."""
    said = record.facts.annotations or Annotations()
    if rule not in case.right or said.rule == BY_HAND:
        return record
    said = replace(said, expected=case.expected, rule=rule, right=case.right[rule] >= RIGHT)
    return record.with_facts(replace(record.facts, annotations=said))


def _lines(result: Result) -> list[str]:
    """The figures that a reader wants first."""
    found = result.found
    lines = [("answered", f"{result.answered:,} of {result.about.items:,}; {found.known:,} of known truth")]
    if result.wanted.truth.by_name:
        lines.append(("the file names", f"{found.named:,} of them; of the others the data's own truth counts"))
    if found.open:
        lines.append(("not told apart", f"{found.open:,} items: the file names their image as others are named too"))
    lines += [("not scored", f"{len(found.bad):,}, such as {id}: {why:.100}") for id, why in found.bad[:1]]
    lines += [("not asked about", f"{len(found.unasked):,}, such as {id}: {why:.100}") for id, why in found.unasked[:1]]
    if found.missing:
        lines.append(("phrases", f"{found.missing:,} of {found.phrases:,} are not in their answer"))
    for key, figure in result.figures.items():
        if not _is_first(key):
            continue
        alike = figure.low == figure.high  # of equal scores a bootstrap has no spread, which is no certainty
        spread = "" if figure.low is None or alike else f" ({figure.low:.3f} to {figure.high:.3f})"
        lines.append((_named(key), f"{figure.value:.3f}{spread}, n {figure.n:,}"))
    lines += [
        (f"share of right above wrong [{one.view}]", f"{one.auroc.value:.3f} of pairs, n {one.auroc.n:,}")
        for one in result.by_share
        if one.auroc
    ]
    width = max(len(name) for name, _ in lines)
    return [f"{name.ljust(width)}  {value}" for name, value in lines]


def _is_first(key: Key) -> bool:
    """Whether a figure is among those that a reader wants first."""
    return not key.tag and key.layer is key.head is None and key.words not in ("first", "last")


def _named(key: Key) -> str:
    of = ", ".join(part for part in (key.view, key.words) if part)
    return f"{key.figure}{f' [{of}]' if of else ''}"


def _against_lines(against: Against) -> list[str]:
    """What a reader wants first of two runs."""
    lines = ["", f"against {against.name}: {counted(against.items, 'item')} of both"]
    lines += [f"they differ in {one}" for one in against.differing]
    lines += against.aside
    lines += [", ".join(f"{name} {number:,}" for name, number in counts)] if (counts := counts_of(against)) else []
    rows = []
    for key, one in against.differences.items():
        if _is_first(key):
            spread = f" ({interval})" if (interval := interval_of(one)) else ""
            chance = "" if one.p is None else f", p {one.p:.3f}"
            told = f"{one.one:.3f} and {one.other:.3f}: {signed(one.value)}{spread}{chance}, {verdict_of(one)}"
            rows.append((_named(key), told))
    width = max((len(name) for name, _ in rows), default=0)
    return [*lines, *(f"{name.ljust(width)}  {told}" for name, told in rows)]


def _pair(text: str) -> tuple[str, str]:
    here, sign, there = text.partition("=")
    if not (here and sign and there):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected two views' names, HERE=THERE")
    return here, there


def _blur(text: str) -> float:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,3})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected 0 or more patches")
    return float(text)


def _reports(text: str) -> int:
    if not re.fullmatch(r"\d|1\d|20", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected 0 to 20")
    return int(text)
