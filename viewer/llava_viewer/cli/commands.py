"""What each command does, with the library's functions.

Flow: parsed arguments -> client or record file -> the result on stdout, written files on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava_doors.door import METHODS
from llava_viewer.cli.console import UsageError, json_escaped, json_text, one_line, printable, say
from llava_viewer.cli.files import check_question, read_record, with_pictures_of
from llava_viewer.cli.inspect import found_lines
from llava_viewer.cli.outputs import Outputs
from llava_viewer.cli.reaching import Where, destination
from llava_viewer.cli.selection import chosen_heads, parameters
from llava_viewer.client.base import Client
from llava_viewer.client.replays.checking import usual_checks
from llava_viewer.files import RECORD, REPLY, REPORT
from llava_viewer.judging import DEFAULT_RULE, annotated
from llava_viewer.look.wording import verdict
from llava_viewer.pages.answers import together
from llava_viewer.store.named import name_of, page_of, read_named
from llava_wire import encode
from llava_wire.container import read_file
from llava_wire.findings.patches import NAME as PATCHES
from llava_wire.record import Record

_OPTIONS = (
    "layers", "heads", "reduction", "method", "steps", "rows", "precision", "max_new_tokens", "template", "temperature",
    "top_p", "top_k", "seed", "num_beams", "length_penalty", "num_return_sequences", "deadline_ms", "check",
)  # fmt: skip


_OF_PATCHES = ("view", "steps", "top", "sets", "seed")
"""Arguments of `check` that are parameters of the check of patches."""


def predict(arguments: argparse.Namespace) -> None:
    """Asks a server, prints the answer, and writes the record and the report."""
    if arguments.format == "json" and arguments.report:
        raise UsageError("--report: got --format json, expected npz beside it; leave one of them out")
    if arguments.format == "json" and _said(arguments):
        raise UsageError("--expected, --tag: got --format json, expected npz beside them; leave one of them out")
    if arguments.stream and (arguments.format == "json" or arguments.grpc is not None):
        raise UsageError("--stream: got --grpc or --format json, expected neither beside it; leave one of them out")
    if arguments.engine and (arguments.stream or arguments.format == "json"):
        raise UsageError("--engine: got --stream or --format json, which only a server has; leave one of them out")
    _check_said(arguments)
    check_question(arguments.prompt)
    files = [*arguments.image, *(arguments.further or ())]
    image = [read_file(path) for path in files]
    outputs = _outputs(arguments, RECORD if arguments.format == "npz" else REPLY, *files)
    options = options_of(arguments)
    where = destination(arguments)
    check_heads(options, where)
    say(one_line(f"asking {where}"))
    with where.client(arguments) as client:
        if arguments.format == "json":
            reply = client.predict_bytes(image, arguments.prompt, options, format="json")
            if arguments.output:
                # The answer first, as always: a file that cannot be written must not cost it.
                with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
                    print(printable(str(json.loads(reply)["answer"])))
                outputs.write(arguments.output, reply)
            else:
                print(json_escaped(reply.decode("utf-8", "replace")))
            return
        if arguments.stream:
            _keep(_judged(_streamed(client, image, options, arguments), arguments), arguments, outputs)
            return
        record = client.predict(image, arguments.prompt, options, keep_picture=not arguments.no_image)
    _give(_judged(record, arguments), arguments, outputs)


def _said(arguments: argparse.Namespace) -> bool:
    """Whether the arguments say anything of the answer."""
    return arguments.expected is not None or bool(arguments.tag)


def _check_said(arguments: argparse.Namespace) -> None:
    """Refuses a rule without what it compares."""
    if arguments.rule is not None and arguments.expected is None:
        raise UsageError(f"--rule: got {arguments.rule} without --expected, expected both; add --expected TEXT")


def _judged(record: Record, arguments: argparse.Namespace) -> Record:
    """The record with what the arguments say of its answers; the verdicts go to stderr."""
    if not _said(arguments):
        return record
    rule = arguments.rule or DEFAULT_RULE
    judged = annotated(record, arguments.expected, rule=rule, tags=arguments.tag or ())
    if arguments.expected is not None:
        for one in (judged, *judged.alternatives):
            _tell_verdict(one)
    return judged


def _tell_verdict(record: Record) -> None:
    said = record.facts.annotations
    if said is not None and said.right is not None:
        expected = f": expected {said.expected!r}" if said.expected else ""
        say(one_line(f"{verdict(said.right)} ({said.rule}){expected}"))


def annotate(arguments: argparse.Namespace) -> None:
    """Writes a record with what the arguments say of its answer."""
    _check_said(arguments)
    if not _said(arguments) and arguments.right is None:
        raise UsageError("annotate: got nothing to say, expected --expected, --right, --wrong or --tag; add one")
    if not arguments.output and not arguments.report:
        raise UsageError("--output: got none, expected a file for the annotated record; add -o judged.npz")
    whole = read_record(arguments.record)
    whole.sequence(arguments.sequence)
    outputs = Outputs((arguments.record,), force=arguments.force)
    outputs.claim("--output", arguments.output, RECORD)
    outputs.claim("--report", arguments.report, REPORT)
    said = {"rule": arguments.rule or DEFAULT_RULE, "right": arguments.right, "tags": arguments.tag or ()}
    judged = annotated(whole, arguments.expected, **said, sequence=arguments.sequence)
    one = judged.sequence(arguments.sequence)
    _tell_verdict(one)
    if arguments.output:
        outputs.write(arguments.output, encode(judged))
    if arguments.report:
        shown, notes = with_pictures_of(judged, None)
        html = _report(shown, embed_image=True, notes=notes, opening=_opens_on(judged, arguments.sequence))
        outputs.write(arguments.report, html)


def _streamed(client: Client, image: list[bytes], options: dict[str, Any], arguments: argparse.Namespace) -> Record:
    """Prints the answer as it comes, and gives its record."""
    begun = False
    for part in client.stream(image, arguments.prompt, options, keep_picture=not arguments.no_image):
        if isinstance(part, Record):
            print(flush=True)
            return part
        text = part.token.text if begun else part.token.text.lstrip()
        begun = begun or bool(text)
        print(printable(text), end="", flush=True)
    raise AssertionError("a stream ends with a record or an error")


def replay(arguments: argparse.Namespace) -> None:
    """Asks a server for other views of a record's answer, and writes the new record and its report."""
    record = read_record(arguments.record).sequence(arguments.sequence)
    image = [read_file(path) for path in arguments.image] if arguments.image else None
    outputs = _outputs(arguments, RECORD, arguments.record, *(arguments.image or ()))
    options = options_of(arguments)
    where = destination(arguments, preferred=record.facts.model.name)
    check_heads(options, where)
    say(one_line(f"replaying with {where}"))
    with where.client(arguments) as client:
        again = client.replay(record, options, image=image, keep_picture=not arguments.no_image)
    _give(again, arguments, outputs)


def check(arguments: argparse.Namespace) -> None:
    """Asks a server to test a record's answer, prints what it found, and writes the record with it and its report."""
    whole = read_record(arguments.record)
    record = whole.sequence(arguments.sequence)
    image = [read_file(path) for path in arguments.image] if arguments.image else None
    outputs = _outputs(arguments, RECORD, arguments.record, *(arguments.image or ()))
    named = _checks(record, arguments)
    where = destination(arguments, preferred=record.facts.model.name)
    say(one_line(f"checking with {where}"))
    with where.client(arguments) as client:
        checked = client.check(record, named, image=image)
    print(printable("\n".join(found_lines(checked, named))))
    if not arguments.output and not arguments.report:
        say("what was found is not kept; add -o checked.npz or --report run.html")
    whole = whole.with_facts(checked.facts, arguments.sequence)
    if arguments.output:
        outputs.write(arguments.output, encode(whole))
    if arguments.report:
        shown, notes = with_pictures_of(whole, arguments.image)
        html = _report(shown, embed_image=True, notes=notes, opening=_opens_on(whole, arguments.sequence))
        outputs.write(arguments.report, html)


def _checks(record: Record, arguments: argparse.Namespace) -> list[Any]:
    """The checks that the arguments name, that of patches with its parameters."""
    given = {name: value for name in _OF_PATCHES if (value := getattr(arguments, name)) is not None}
    named: list[Any] = usual_checks(record) if arguments.check is None else arguments.check
    if not named:
        raise UsageError("--check: got none, expected one or more; name image or patches")
    if given and PATCHES not in named:
        raise UsageError(f"--{next(iter(given))}: got it without the check patches alone, which takes it; leave it out")
    return [{"name": PATCHES, **given} if one == PATCHES else one for one in named]


def _outputs(arguments: argparse.Namespace, kind: str, *inputs: Path | None) -> Outputs:
    """What a request's answer goes to, refused before it is sent, so that no answer is lost."""
    outputs = Outputs((*inputs, arguments.key_file, arguments.ca_file), force=arguments.force)
    outputs.claim("--output", arguments.output, kind)
    outputs.claim("--report", arguments.report, REPORT)
    return outputs


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request's options among the arguments; a replay has fewer."""
    options = {name: value for name in _OPTIONS if (value := getattr(arguments, name, None)) is not None}
    if arguments.parameter:
        options["parameters"] = parameters(METHODS, arguments.method, arguments.parameter)
    return {**options, "views": arguments.view} if arguments.view else options


def check_heads(options: Mapping[str, Any], where: Where) -> None:
    """Refuses sets of heads that were found on another model than the one that is asked.

    Raises:
        UsageError: naming both.
    """
    for one in chosen_heads(options):
        if one.model != where.model:
            raise UsageError(
                f"--heads: got {one.name}, heads of {one.model}, expected those of {where.model}, which is asked; find "
                "its own with llava-viewer heads"
            )


def _give(record: Record, arguments: argparse.Namespace, outputs: Outputs) -> None:
    # The answers first: a file that cannot be written must not cost them.
    for one in (record, *record.alternatives):
        print(printable(one.answer))
    _keep(record, arguments, outputs)


def _keep(record: Record, arguments: argparse.Namespace, outputs: Outputs) -> None:
    for one in chosen_heads(options_of(arguments)):
        if one.revision != record.facts.model.revision:
            told = f"{one.name} are heads of revision {one.revision}; this is {record.facts.model.revision}"
            say(f"warning: {one_line(told)}")
    for note in record.facts.notes:
        say(f"note: {one_line(note.text)}")
    for number, other in enumerate(record.alternatives, start=1):
        for note in other.facts.notes:
            if note not in record.facts.notes:
                say(f"note on answer {number}: {one_line(note.text)}")
    for line in found_lines(record, arguments.check or []):
        say(printable(line))
    if not arguments.output and not arguments.report:
        say("the maps are not kept; add -o run.npz or --report run.html")
    if arguments.output:
        outputs.write(arguments.output, encode(record))
    if arguments.report:
        html = _report(record, embed_image=not arguments.no_image, notes=())
        outputs.write(arguments.report, html)


def _opens_on(record: Record, sequence: int) -> str:
    """The state of a report that opens on one of its answers."""
    return f"n={sequence}" if record.alternatives else ""


def _other_answers(record: Record, sequence: int) -> tuple[str, ...]:
    """A note when the record holds more answers than the one that is shown."""
    if not record.alternatives:
        return ()
    place = f"This is answer {sequence + 1} of {1 + len(record.alternatives)} to one request."
    return (f"{place} Without --sequence, `llava-viewer render` shows all of them in one page.",)


def render(arguments: argparse.Namespace) -> None:
    """Renders a record file, or several of one question as one page."""
    paths: list[Path] = arguments.record
    outputs = Outputs((*paths, *(arguments.image or ())), force=arguments.force)
    output = arguments.output or page_of(paths[0])
    outputs.claim("--output", output, REPORT, own=arguments.output is None)
    record, others = read_record(paths[0]), tuple[str, ...]()
    if len(paths) > 1:
        if arguments.sequence is not None:
            raise UsageError(
                f"--sequence: got it with {len(paths)} records, expected one; name the answer by --open n=N"
            )
        record = together([record, *map(read_record, paths[1:])], [name_of(path) for path in paths])
    elif arguments.sequence is not None:
        others = _other_answers(record, arguments.sequence)
        record = record.sequence(arguments.sequence)
    record, notes = with_pictures_of(record, arguments.image)
    html = _report(record, embed_image=not arguments.no_image, notes=(*notes, *others), opening=arguments.open)
    outputs.write(output, html)
    outputs.name(output)


def inspect(arguments: argparse.Namespace) -> None:
    """Prints what a record holds."""
    from llava_viewer.cli.inspect import summary, summary_text

    record, count_bytes = read_named(arguments.record)
    with_pictures_of(record, None)  # says what is wrong with the record's own
    found = summary(record, name_of(arguments.record), count_bytes)
    print(json_text(found) if arguments.json else summary_text(found))


def _report(record: Record, *, embed_image: bool, notes: tuple[str, ...], opening: str = "") -> bytes:
    from llava_viewer.pages.opening import OpeningError
    from llava_viewer.pages.report import render_report, report_size_note

    try:
        html = render_report(record, embed_image=embed_image, notes=notes, opening=opening)
    except OpeningError as error:
        raise UsageError(f"--open: {error}") from None
    note = report_size_note(html)
    if note:
        say(f"warning: {note}")
    return html.encode("utf-8")
