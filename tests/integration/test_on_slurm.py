"""A run as an array of a real Slurm of one node: a requeue in the middle costs nothing, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.store import Store
from support.pictures import scene_bytes
from support.slurm import Slurm, lacking, one_node, until

MODEL = Path(__file__).resolve().parents[2] / "model_store" / "llava-shapes"
COUNT, CHUNK = 24, 4


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

    # A task that is stopped over a part cannot have finished before it is requeued, however busy the machine is.
    parts = out / "parts"
    until(lambda: list(parts.glob("*.tar")) and with_claims(out), logs)
    found = with_claims(out)
    assert found, logs()
    pid, task = found
    os.kill(pid, signal.SIGSTOP)
    assert 0 < len(list(parts.glob("*.tar"))) < COUNT // CHUNK, logs()
    slurm.told("scontrol", "requeue", f"{job}_{task}")
    # A requeued task rests for two minutes; not here.
    until(lambda: "PD" in slurm.told("squeue", "-h", "-r", "-j", f"{job}_{task}", "-o", "%t"), logs)
    slurm.told("scontrol", "update", f"jobid={job}_{task}", "starttime=now")
    until(lambda: not slurm.told("squeue", "-h"), logs)
    with Store(out) as store:
        assert sorted(store) == [f"{n:02}.png" for n in range(COUNT)], logs()
        assert [row["error"] for row in store.rows()] == [None] * COUNT
    assert f"task {task} on" in logs()
    assert "restart 1" in logs()
    assert not list((out / "claims").iterdir())
