"""What each command does, with the library's functions.

Flow: parsed arguments -> client or record file -> the result on stdout, written files on stderr.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from llava_viewer.cli.console import UsageError, one_line, printable, say, size
from llava_viewer.client.base import Client
from llava_viewer.picture import check_picture, prepare_picture
from llava_wire.container import decode, encode
from llava_wire.record import Record

_OPTIONS = (
    "layers", "heads", "reduction", "steps", "rows", "precision", "max_new_tokens", "template", "temperature",
    "top_p", "top_k", "seed", "num_beams", "length_penalty", "num_return_sequences",
)  # fmt: skip


def predict(arguments: argparse.Namespace) -> None:
    """Asks a server, prints the answer, and writes the record and the report."""
    if arguments.format == "json" and arguments.report:
        raise UsageError("--report: got --format json, allowed npz beside it; leave one of them out")
    image = arguments.image.read_bytes()
    options = _options(arguments)
    say(f"asking {arguments.model} at {arguments.grpc or arguments.url}")
    with _client(arguments) as client:
        if arguments.format == "json":
            reply = client.predict_bytes(image, arguments.prompt, options, format="json")
            if arguments.output:
                _write(arguments.output, reply)
            else:
                print(reply.decode("utf-8", "replace"))
            return
        record = client.predict(image, arguments.prompt, options, keep_picture=not arguments.no_image)
    _give(record, arguments)


def replay(arguments: argparse.Namespace) -> None:
    """Asks a server for other views of a record's answer, and writes the new record and its report."""
    record = _read(arguments.record).sequence(arguments.sequence)
    image = arguments.image.read_bytes() if arguments.image else None
    say(f"replaying at {arguments.grpc or arguments.url}")
    with _client(arguments) as client:
        again = client.replay(record, _options(arguments), image=image, keep_picture=not arguments.no_image)
    _give(again, arguments)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request's options among the arguments; a replay has fewer."""
    options = {name: value for name in _OPTIONS if (value := getattr(arguments, name, None)) is not None}
    return {**options, "views": arguments.view} if arguments.view else options


def _give(record: Record, arguments: argparse.Namespace) -> None:
    # The answers first: a file that cannot be written must not cost them.
    for one in (record, *record.alternatives):
        print(printable(one.answer))
    if arguments.output:
        _write(arguments.output, encode(record))
    if arguments.report:
        _report(record, arguments.report, picture=None, embed_image=not arguments.no_image, notes=_others(record))


def _others(record: Record, sequence: int = 0) -> tuple[str, ...]:
    """A note when the record holds more answers than the one that is shown."""
    if not record.alternatives:
        return ()
    total = len(record.alternatives) + 1
    return (f"This is answer {sequence + 1} of {total} of one request; render --sequence shows the others.",)


def render(arguments: argparse.Namespace) -> None:
    """Renders a record file."""
    whole = _read(arguments.record)
    record = whole.sequence(arguments.sequence)
    output = arguments.output or arguments.record.with_suffix(".html")
    picture, notes = _picture(record, arguments.image)
    notes = (*notes, *_others(whole, arguments.sequence))
    _report(record, output, picture=picture, embed_image=not arguments.no_image, notes=notes)
    print(output)


def index(arguments: argparse.Namespace) -> None:
    """Lists a folder's runs in one page."""
    from llava_viewer.index import write_index

    if not arguments.folder.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(arguments.folder))
    print(write_index(arguments.folder))


def inspect(arguments: argparse.Namespace) -> None:
    """Prints what a record holds."""
    import json

    from llava_viewer.cli.inspect import summary, summary_text

    data = arguments.record.read_bytes()
    record = decode(data)
    found = summary(record, arguments.record.name, len(data))
    print(json.dumps(found, ensure_ascii=False, indent=2) if arguments.json else summary_text(found))


def export(arguments: argparse.Namespace) -> None:
    """Writes overlays and the text log of a record."""
    from llava_viewer.export import export_overlays, write_text_log

    record = _read(arguments.record)
    if arguments.view is not None and arguments.view not in record.views:
        raise ValueError(f"--view: got {arguments.view!r}, allowed {list(record.views)}; name one of them")
    picture, _ = _picture(record, arguments.image)
    if picture is not None:
        record = record.with_picture(*picture)
    chosen: dict[str, Any] = {"palette": arguments.palette} if arguments.palette else {}
    arguments.output.mkdir(parents=True, exist_ok=True)
    paths = list(export_overlays(record, arguments.output, view=arguments.view, **chosen))
    log = arguments.output / "log.txt"
    write_text_log(record, log)
    say(f"wrote {len(paths)} overlays and {log.name}")
    for path in [*paths, log]:
        print(path)


def _client(arguments: argparse.Namespace) -> Client:
    token = arguments.token if arguments.token is not None else arguments.key_file
    common: dict[str, Any] = {
        "model": arguments.model, "token": token, "timeout_s": arguments.timeout, "retry_s": arguments.retry,
        "ca_file": arguments.ca_file,
    }  # fmt: skip
    return Client.grpc(arguments.grpc, **common) if arguments.grpc else Client.http(arguments.url, **common)


def _read(path: Path) -> Record:
    return decode(path.read_bytes())


def _picture(record: Record, path: Path | None) -> tuple[tuple[str, bytes] | None, tuple[str, ...]]:
    """The picture file as (member name, bytes), and a note when it, or else the record's own, is another picture."""
    data = path.read_bytes() if path else None
    shown = data if data is not None else record.picture and record.picture[1]
    difference = check_picture(record, shown) if shown else None
    if difference:
        say(f"warning: {one_line(difference)}")
    return prepare_picture(data) if data is not None else None, (difference,) if difference else ()


def _report(
    record: Record, output: Path, *, picture: tuple[str, bytes] | None, embed_image: bool, notes: tuple[str, ...]
) -> None:
    from llava_viewer.render import render_report, report_size_note

    html = render_report(record, picture=picture, embed_image=embed_image, notes=notes)
    _write(output, html.encode("utf-8"))
    note = report_size_note(html)
    if note:
        say(f"warning: {note}")


def _write(path: Path, data: bytes) -> None:
    """Writes a file in one step, so that a full disk or Ctrl-C never leaves half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    say(f"wrote {path} ({size(len(data))})")
