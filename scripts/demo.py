"""The whole way once: a real server, real questions over HTTP and gRPC, a report for each and an index of all.

Flow: archive -> TorchServe on free ports -> held-out scenes and questions -> `Client` -> *.png, *.npz, *.html and
questions.jsonl in demo-out, photographs in a folder of their own -> index.html of each -> stop -> the index as a file://
link on stdout.
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
from things.demo_tasks import MODEL, Task, questions_file, tasks

VIEWS = [
    {"name": "mean", "layers": "all", "heads": "all"},
    {"name": "named-thing", "heads": "named-thing"},
    {"name": "named-colour", "heads": "named-colour"},
    {"name": "contributions", "method": "contributions"},
]
"""What each report shows: the model's own default views, and what each patch gave to a word."""
CHECKS = ["image", {"name": "patches", "sets": 4}]
"""What is tested of every answer: which words need the image, and whether the first view's patches are enough, beside
four random sets; sixteen, the usual number, would take most of the demo's time."""
OPTIONS = {"views": VIEWS, "check": CHECKS, "precision": "float16"}
"""In uint8 the patches of a contribution would not add up to the sum beside them."""
PHOTOGRAPHS = Path("photographs", "records")
"""Two folders down, so that the index of the scenes leaves them out."""
DENIED_NOTE = (
    f"{MODEL} said No to all of 94 questions that name the very colour of a thing, and then named that colour (its "
    "card has more). The map shows where it read the colour; it cannot show the mistake."
)
PHOTOGRAPH_NOTE = (
    f"This is a photograph, and {MODEL} knows drawn things alone: what it says here means nothing. The page shows how "
    "maps lie on a real image, and what looked into a box that was drawn by hand."
)


def ask_all(folder: Path) -> tuple[int, int]:
    """Runs every task against a server of its own; how many answers about scenes are right, and of how many."""
    right, asked = 0, 0
    with start_server([MODEL], name="demo", ports="auto", timeout_s=600, progress=say) as server:
        state = server.state
        key_file = Path(state.key_file)
        clients = {
            "http": Client.http(state.http, model=MODEL, token=key_file),
            "grpc": Client.grpc(state.grpc, model=MODEL, token=key_file),
        }
        for task in tasks():
            begin, truth = time.monotonic(), task.question
            record = clients[task.transport].predict(task.picture, truth.text, OPTIONS)
            asked_s = time.monotonic() - begin
            record = annotated(record, truth.answer, tags=task.tags)
            notes = record.facts.annotations
            is_right = notes is not None and notes.right is True
            write(record, task, folder if task.scene else folder / PHOTOGRAPHS)
            mark = "right" if is_right else f"wrong, it is {truth.answer!r}"
            if task.scene:
                right, asked = right + is_right, asked + 1
            else:
                mark += "; this model knows no photographs"
            say(f"{task.name} ({task.transport}, {asked_s:.1f} s): {truth.text} -> {record.answer} ({mark})")
        for client in clients.values():
            client.close()
    return right, asked


def write(record: Record, task: Task, folder: Path) -> None:
    """The picture, the record and its report, side by side; a photograph's report opens with its box."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / task.name
    stem.with_suffix(task.suffix).write_bytes(task.picture)
    stem.with_suffix(".npz").write_bytes(encode(record))
    notes, opening = ((DENIED_NOTE,) if task.question.kind == "exists-yes" else ()), ""
    if not task.scene:
        [[box]] = task.boxes.values()
        notes, opening = (PHOTOGRAPH_NOTE,), "box=" + ",".join(f"{edge:g}" for edge in box)
    stem.with_suffix(".html").write_text(render_report(record, notes=notes, opening=opening), encoding="utf-8")


def main() -> int:
    """The command line."""
    arguments = parser("Serve the small model, ask it, write reports and an index.", "python scripts/demo.py --out out")
    arguments.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where to (default: demo-out)")
    folder = arguments.parse_args().out.resolve()
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    archive, built = build(MODEL)
    say(f"{shown(archive)}: {'built' if built else 'unchanged'}")
    right, asked = ask_all(folder)
    (folder / "questions.jsonl").write_text(questions_file(), encoding="utf-8")
    photographs = write_index(folder / PHOTOGRAPHS.parent, title=f"Photographs, which {MODEL} does not know")
    index = write_index(folder, title=f"Questions to {MODEL}")
    say(f"photographs: {photographs.resolve().as_uri()}")
    say(f"{right} of {asked} right; {time.monotonic() - begin:.0f} s; open:")
    if not index.is_file():
        raise SetupError(f"index: got none at {shown(index)}, expected a written page; run it again")
    print(index.resolve().as_uri())
    return 0


if __name__ == "__main__":
    run(main)
