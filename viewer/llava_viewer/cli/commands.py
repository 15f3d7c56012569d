"""What each command does, with the library's functions.

Flow: parsed arguments -> client or record file -> the result on stdout, written files on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from llava_viewer.cli.console import UsageError, json_escaped, json_text, one_line, print_path, printable, say
from llava_viewer.cli.files import picture_of, read_record
from llava_viewer.cli.outputs import Outputs
from llava_viewer.cli.reaching import destination
from llava_viewer.client.base import Client
from llava_viewer.files import CACHE, INDEX, RECORD, REPLY, REPORT
from llava_wire import decode, encode
from llava_wire.container import read_file
from llava_wire.record import Record

_OPTIONS = (
    "layers", "heads", "reduction", "method", "steps", "rows", "precision", "max_new_tokens", "template", "temperature",
    "top_p", "top_k", "seed", "num_beams", "length_penalty", "num_return_sequences", "deadline_ms",
)  # fmt: skip


def predict(arguments: argparse.Namespace) -> None:
    """Asks a server, prints the answer, and writes the record and the report."""
    if arguments.format == "json" and arguments.report:
        raise UsageError("--report: got --format json, expected npz beside it; leave one of them out")
    if arguments.stream and (arguments.format == "json" or arguments.grpc is not None):
        raise UsageError("--stream: got --grpc or --format json, expected neither beside it; leave one of them out")
    image = read_file(arguments.image)
    outputs = _outputs(arguments, RECORD if arguments.format == "npz" else REPLY, arguments.image)
    options = _options(arguments)
    where = destination(arguments)
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
            _keep(_streamed(client, image, options, arguments), arguments, outputs)
            return
        record = client.predict(image, arguments.prompt, options, keep_picture=not arguments.no_image)
    _give(record, arguments, outputs)


def _streamed(client: Client, image: bytes, options: dict[str, Any], arguments: argparse.Namespace) -> Record:
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
    image = read_file(arguments.image) if arguments.image else None
    outputs = _outputs(arguments, RECORD, arguments.record, arguments.image)
    where = destination(arguments, preferred=record.facts.model.name)
    say(one_line(f"replaying with {where}"))
    with where.client(arguments) as client:
        again = client.replay(record, _options(arguments), image=image, keep_picture=not arguments.no_image)
    _give(again, arguments, outputs)


def _outputs(arguments: argparse.Namespace, kind: str, *inputs: Path | None) -> Outputs:
    """What a request's answer goes to, refused before it is sent, so that no answer is lost."""
    outputs = Outputs((*inputs, arguments.key_file, arguments.ca_file), force=arguments.force)
    outputs.claim("--output", arguments.output, kind)
    outputs.claim("--report", arguments.report, REPORT)
    return outputs


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request's options among the arguments; a replay has fewer."""
    options = {name: value for name in _OPTIONS if (value := getattr(arguments, name, None)) is not None}
    options |= {"parameters": dict(arguments.parameter)} if arguments.parameter else {}
    return {**options, "views": arguments.view} if arguments.view else options


def _give(record: Record, arguments: argparse.Namespace, outputs: Outputs) -> None:
    # The answers first: a file that cannot be written must not cost them.
    for one in (record, *record.alternatives):
        print(printable(one.answer))
    _keep(record, arguments, outputs)


def _keep(record: Record, arguments: argparse.Namespace, outputs: Outputs) -> None:
    for note in record.facts.notes:
        say(f"note: {one_line(note.text)}")
    for number, other in enumerate(record.alternatives, start=1):
        for note in other.facts.notes:
            if note not in record.facts.notes:
                say(f"note on answer {number}: {one_line(note.text)}")
    if not arguments.output and not arguments.report:
        say("the maps are not kept; add -o run.npz or --report run.html")
    if arguments.output:
        outputs.write(arguments.output, encode(record))
    if arguments.report:
        html = _report(record, picture=None, embed_image=not arguments.no_image, notes=_others(record))
        outputs.write(arguments.report, html)


def _others(record: Record, sequence: int = 0) -> tuple[str, ...]:
    """A note when the record holds more answers than the one that is shown."""
    if not record.alternatives:
        return ()
    answers = [record.answer, *(other.answer for other in record.alternatives)]
    others = "; ".join(f"{i}: “{answer}”" for i, answer in enumerate(answers) if i != sequence)
    place = f"This is answer {sequence + 1} of {len(answers)} to one request."
    return (f"{place} The others, by the number that `llava-viewer render RUN.npz --sequence` takes: {others}",)


def render(arguments: argparse.Namespace) -> None:
    """Renders a record file."""
    whole = read_record(arguments.record)
    record = whole.sequence(arguments.sequence)
    output = arguments.output or arguments.record.with_suffix(".html")
    outputs = Outputs((arguments.record, arguments.image), force=arguments.force)
    outputs.claim("--output", output, REPORT, own=arguments.output is None)
    picture, notes = picture_of(record, arguments.image)
    notes = (*notes, *_others(whole, arguments.sequence))
    outputs.write(output, _report(record, picture=picture, embed_image=not arguments.no_image, notes=notes))
    outputs.name(output)


def index(arguments: argparse.Namespace) -> None:
    """Lists a folder's runs in one page."""
    from llava_viewer.pages.index import INDEX_NAME, records_of, write_index
    from llava_viewer.pages.index_cache import CACHE_NAME

    if not arguments.folder.is_dir():
        code = errno.ENOTDIR if arguments.folder.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(arguments.folder))
    outputs = Outputs(records_of(arguments.folder), force=arguments.force)
    outputs.claim("FOLDER", arguments.folder / INDEX_NAME, INDEX, own=True)
    outputs.claim("FOLDER", arguments.folder / CACHE_NAME, CACHE, own=True)
    print_path(write_index(arguments.folder, title=arguments.title, fresh=arguments.fresh))


def inspect(arguments: argparse.Namespace) -> None:
    """Prints what a record holds."""
    from llava_viewer.cli.inspect import summary, summary_text

    data = read_file(arguments.record)
    record = decode(data)
    picture_of(record, None)  # says what is wrong with the record's own
    found = summary(record, arguments.record.name, len(data))
    print(json_text(found) if arguments.json else summary_text(found))


def _report(
    record: Record, *, picture: tuple[str, bytes] | None, embed_image: bool, notes: tuple[str, ...]
) -> bytes:  # fmt: skip
    from llava_viewer.pages.report import render_report, report_size_note

    html = render_report(record, picture=picture, embed_image=embed_image, notes=notes)
    note = report_size_note(html)
    if note:
        say(f"warning: {note}")
    return html.encode("utf-8")
