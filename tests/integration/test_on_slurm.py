"""A run as an array of a real Slurm of one node: a requeue in the middle costs nothing, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.store import Store
from support.pictures import scene_bytes
from support.slurm import Slurm, lacking, one_node, until

ROOT = Path(__file__).resolve().parents[2]
MODEL, DOCUMENT = ROOT / "model_store" / "llava-shapes", ROOT / "docs" / "scale.md"
COUNT, CHUNK = 24, 4
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A Slurm of one node."""
    if why := lacking():
        pytest.skip(why)
    with one_node() as slurm:
        yield slurm


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scenes in the present one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(COUNT):
        (folder / f"{n:02}.png").write_bytes(scene_bytes(192, 192, seed=n))
    return folder


def with_claims(out: Path) -> tuple[int, str] | None:
    """A process that has claims in a run, and which task of the array it is of."""
    for path in (out / "claims").glob("0*.claim"):
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile
            pid = int(json.loads(path.read_text("utf-8"))["pid"])
            said = dict(part.split(b"=", 1) for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if part)
            return pid, said[b"SLURM_ARRAY_TASK_ID"].decode("ascii")
    return None


def stopped_over_a_part(slurm: Slurm, out: Path, logs: Callable[[], str]) -> str:
    """A task of the array that is stopped over a part, so that it cannot end before it is requeued, however busy the
    machine is."""
    parts = out / "parts"
    until(lambda: list(parts.glob("*.tar")) and with_claims(out), logs)
    found = with_claims(out)
    assert found, logs()
    pid, task = found
    os.kill(pid, signal.SIGSTOP)
    assert 0 < len(list(parts.glob("*.tar"))) < COUNT // CHUNK, logs()
    return task


def started_again(slurm: Slurm, task: str, logs: Callable[[], str]) -> None:
    """Waits for a requeued task, which rests for two minutes; not here."""
    until(lambda: "PD" in slurm.told("squeue", "-h", "-r", "-j", task, "-o", "%t"), logs)
    # A task that starts within a second of its end would be taken for the one that was killed.
    time.sleep(5)
    slurm.told("scontrol", "update", f"jobid={task}", "starttime=now")
    until(lambda: not slurm.told("squeue", "-h"), logs)


def check_all_done_once(out: Path, logs: Callable[[], str]) -> None:
    """Every item has its record, and no claim is left."""
    with Store(out) as store:
        assert sorted(store) == [f"{n:02}.png" for n in range(COUNT)], logs()
        assert [row["error"] for row in store.rows()] == [None] * COUNT
    assert not list((out / "claims").iterdir())


def test_an_array_with_a_requeue_does_everything_once(
    slurm: Slurm, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["images", "--prompt", "Describe the image.", "-o", "out", "--chunk", str(CHUNK), "--engine", str(MODEL)]
    assert main(["slurm", "--tasks", "2", "--sbatch=--cpus-per-task=1", "--", *asked, "--device", "cpu"]) == 0
    (tmp_path / "job.sh").write_text(capsys.readouterr().out, "utf-8")
    job = slurm.told("sbatch", "--parsable", "job.sh").strip()
    out = tmp_path / "out"

    def logs() -> str:
        said = "".join(path.read_text("utf-8") for path in tmp_path.glob("gaze-out-*.log"))
        return f"{said}\n{slurm.told('squeue', '-r')}\n{slurm.logs()}"

    task = f"{job}_{stopped_over_a_part(slurm, out, logs)}"
    slurm.told("scontrol", "requeue", task)
    started_again(slurm, task, logs)
    check_all_done_once(out, logs)
    assert f"task {task.partition('_')[2]} on" in logs()
    assert "restart 1" in logs()


@pytest.mark.long
def test_submitit_starts_it_as_the_document_says_and_queues_it_again(
    slurm: Slurm, images: Path, tmp_path: Path
) -> None:
    [program] = re.findall(r"```python\n(import submitit\n.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    asked = ["images", "--prompt", "Describe the image.", "--chunk", str(CHUNK), "--device", "cpu"]
    for said, here in (
        ('"questions.jsonl"', ", ".join(map(repr, asked))),
        ('"llava-things"', repr(str(MODEL))),
        ('"llava-viewer"', repr(str(Path(sys.executable).with_name("llava-viewer")))),
        (", gpus_per_node=1", ""),
        ("range(8)", "range(2)"),
    ):
        assert said in program
        program = program.replace(said, here)
    (tmp_path / "night.py").write_text(program, "utf-8")
    started = subprocess.Popen([sys.executable, "night.py"], env=slurm.environment)
    out = tmp_path / "night"

    def logs() -> str:
        said = "".join(path.read_text("utf-8") for path in tmp_path.glob("logs/*_log.*"))
        return f"{said}\n{slurm.told('squeue', '-r')}\n{slurm.logs()}"

    number = stopped_over_a_part(slurm, out, logs)
    task = slurm.told("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()[0].partition("_")[0] + f"_{number}"
    # What Slurm sends before the time limit; submitit takes it up.
    slurm.told("scancel", "--signal=USR2", task)
    started_again(slurm, task, logs)
    assert started.wait(timeout=300) == 0, logs()
    check_all_done_once(out, logs)
    assert "Requeued job" in logs()
