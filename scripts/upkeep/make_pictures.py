"""The pictures of docs/images, taken anew: real answers of the small model, the real pages, a real browser.

Flow: held-out scenes -> `Engine` -> records -> report, index, comparison, figure -> Chromium -> docs/images/*.png.
Look at every picture before committing it.

Example: python -m upkeep.make_pictures --only heat,compare
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer import export
from llava_viewer.judging import annotated
from llava_viewer.look.picture import prepare_picture
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import Record, encode
from servekit.cli import parser, run, say
from servekit.paths import ROOT, SetupError, shown
from things.demo_tasks import MODEL, Task, tasks

IMAGES = ROOT / "docs" / "images"
VIEW = "named-thing"


@dataclass(frozen=True)
class Shot:
    """One picture of a page: which file, what is chosen in it, how large; `paper` is the print layout."""

    page: str
    fragment: str = ""
    width_px: int = 1180
    height_px: int = 1000
    dark: bool = False
    paper: bool = False


SHOTS = {
    "heat": Shot("report.html", f"#t=1&v={VIEW}&m=heat"),
    "spotlight": Shot("report.html", f"#t=7&v={VIEW}&m=spotlight"),
    "map": Shot("report.html", f"#t=11&v={VIEW}&m=map&p=viridis"),
    "dark": Shot("report.html", f"#t=1&v={VIEW}&m=heat", dark=True),
    "print": Shot("report.html", f"#t=1&v={VIEW}&m=heat", width_px=794, height_px=1123, paper=True),
    "phone": Shot("report.html", f"#t=1&v={VIEW}&m=heat", width_px=390, height_px=844),
    "index": Shot("index.html", "#sort=share", height_px=1060),
    "compare": Shot("compare.html", "#a=7&b=7&c=7&s=shared&m=heat", height_px=1310),
}


def answer(engine: Engine, image: bytes, prompt: str) -> Record:
    """One record with its picture and without a run block, so that the same model gives the same pages."""
    [record] = engine.run([GenerateRequest.build(image, prompt, {})])
    if not isinstance(record, Record):
        raise SetupError(f"{prompt!r}: got {record}, expected an answer")
    return record.with_picture(*prepare_picture(image)).without_run()


def write_pages(folder: Path) -> Record:
    """All pages in one folder; the record of the report."""
    engine = Engine.load(str(ROOT / "model_store" / MODEL))
    chosen: list[tuple[Task, Record]] = []
    for task in tasks():
        if task.scene is None:
            continue
        record = annotated(answer(engine, task.picture, task.question.text), task.question.answer, tags=task.tags)
        (folder / f"{task.name}.npz").write_bytes(encode(record))
        (folder / f"{task.name}.html").write_text(render_report(record), encoding="utf-8")
        chosen.append((task, record))
        say(f"{task.name}: {record.answer}")
    write_index(folder, title=f"Questions to {MODEL}")
    task, record = chosen[0]
    (folder / "report.html").write_text(render_report(record), encoding="utf-8")
    picks = [Pick(record, f"{task.name}.npz", view) for view in (VIEW, "named-colour", "mean")]
    (folder / "compare.html").write_text(render_compare(picks), encoding="utf-8")
    return record


@contextmanager
def browser() -> Iterator[Callable[[Path, Shot], bytes]]:
    """A headless Chromium as a function: page file and shot -> PNG bytes."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SetupError("browser: got none, expected chromium or google-chrome on the PATH; apt-get install chromium")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])

        def take(path: Path, shot: Shot) -> bytes:
            size: Any = {"width": shot.width_px, "height": shot.height_px}
            page = chromium.new_page(viewport=size, color_scheme="dark" if shot.dark else "light")
            page.add_init_script("localStorage.setItem('llava-gaze tour', 'seen')")
            page.goto(path.as_uri() + shot.fragment)
            if shot.paper:
                page.emulate_media(media="print")
            page.wait_for_timeout(500)
            data: bytes = page.screenshot()
            page.close()
            return data

        yield take
        chromium.close()


def write_figure(record: Record, path: Path) -> None:
    """A figure as `llava-viewer export --as png` writes it, at 200 dpi."""
    look = export.Look(dpi=200)
    shown_maps = export.show(record, view=VIEW, look=look)
    export.write_png(export.figure(shown_maps, shown_maps.item(1)), path, look.dpi)


def write_sheet(record: Record, path: Path) -> None:
    """A contact sheet of the answer."""
    look = export.Look(width_mm=180, dpi=130)
    export.write_png(export.contact_sheet(export.show(record, view=VIEW, look=look)), path, look.dpi)


def main() -> int:
    """The command line."""
    made: dict[str, Callable[[Record, Path], None]] = {"figure": write_figure, "sheet": write_sheet}
    arguments = parser("Takes the screenshots of docs/images anew.", "python -m upkeep.make_pictures --only heat,index")
    arguments.add_argument("--only", help=f"some of {', '.join([*SHOTS, *made])} (default: all)")
    arguments.add_argument("--out", type=Path, default=IMAGES, help="where to (default: docs/images)")
    arguments.add_argument("--pages", type=Path, help="keep the pages in this folder")
    given = arguments.parse_args()
    names = given.only.split(",") if given.only else [*SHOTS, *made]
    unknown = [name for name in names if name not in {**SHOTS, **made}]
    if unknown:
        raise SetupError(f"--only: got {unknown[0]!r}, expected {', '.join([*SHOTS, *made])}")
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as take:
        folder = given.pages.resolve() if given.pages else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        record = write_pages(folder)
        for name in names:
            path = given.out.resolve() / f"{name}.png"
            if name in made:
                made[name](record, path)
            else:
                data = take(folder / SHOTS[name].page, SHOTS[name])
                Image.open(io.BytesIO(data)).convert("RGB").save(path, "PNG", optimize=True)
            print(shown(path))
    return 0


if __name__ == "__main__":
    run(main)
