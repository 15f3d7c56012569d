"""The whole way once: a real server, real questions over HTTP and gRPC, a report for each and an index of all.

Flow: archive -> TorchServe on free ports -> held-out scenes and questions -> `Client` -> *.png, *.npz, *.html and
questions.jsonl in demo-out -> index.html -> stop -> the index as a file:// link on stdout.
"""

from __future__ import annotations

import time
from pathlib import Path

from build_mar import build

from llava_viewer.client import Client
from llava_viewer.judging import annotated
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import Record, encode
from servekit.cli import parser, run, say
from servekit.paths import ROOT, SetupError, shown
from servekit.server import start_server
from shapes.demo_tasks import KINDS, MODEL, picture, questions_file, tasks

VIEWS = [
    {"name": "mean", "layers": "all", "heads": "all"},
    {"name": "next-object", "heads": "next-object"},
    {"name": "named-object", "heads": "named-object"},
    {"name": "contributions", "method": "contributions"},
]
"""What each report shows: the model's own default views, and what each patch gave to a word."""
CHECKS = ["image", "patches"]
"""What is tested of every answer: which words need the image, and whether the first view's patches are enough."""


def ask_all(folder: Path) -> int:
    """Runs every task against a server of its own; the number of right answers."""
    right = 0
    with start_server([MODEL], name="demo", ports="auto", timeout_s=600, progress=say) as server:
        state = server.state
        key_file = Path(state.key_file)
        clients = {
            "http": Client.http(state.http, model=MODEL, token=key_file),
            "grpc": Client.grpc(state.grpc, model=MODEL, token=key_file),
        }
        for task in tasks():
            begin = time.monotonic()
            drawn = picture(task.scene)
            record = clients[task.transport].predict(drawn, task.question.text, {"views": VIEWS, "check": CHECKS})
            asked_s = time.monotonic() - begin
            record = annotated(record, task.question.answer)
            is_right = record.facts.annotations.right is True
            (folder / f"{task.name}.png").write_bytes(drawn)
            write(record, folder / task.name)
            mark = "right" if is_right else f"wrong, it is {task.question.answer!r}"
            right += is_right
            say(f"{task.name} ({task.transport}, {asked_s:.1f} s): {task.question.text} -> {record.answer} ({mark})")
        for client in clients.values():
            client.close()
    return right


def write(record: Record, stem: Path) -> None:
    """The record and its report, side by side."""
    stem.with_suffix(".npz").write_bytes(encode(record))
    stem.with_suffix(".html").write_text(render_report(record), encoding="utf-8")


def main() -> int:
    """The command line."""
    arguments = parser("Serve the small model, ask it, write reports and an index.", "python scripts/demo.py --out out")
    arguments.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where to (default: demo-out)")
    folder = arguments.parse_args().out.resolve()
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    archive, built = build(MODEL)
    say(f"{shown(archive)}: {'built' if built else 'unchanged'}")
    right = ask_all(folder)
    (folder / "questions.jsonl").write_text(questions_file(), encoding="utf-8")
    index = write_index(folder)
    say(f"{right} of {len(KINDS)} right; {time.monotonic() - begin:.0f} s; open:")
    if not index.is_file():
        raise SetupError(f"index: got none at {shown(index)}, expected a written page; run it again")
    print(index.resolve().as_uri())
    return 0


if __name__ == "__main__":
    run(main)
