"""A run as an array of a real Slurm of one node: a requeue in the middle costs nothing, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.store import Store
from support.pictures import scene_bytes

PROGRAMS = ("/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch")
MODEL = Path(__file__).resolve().parents[2] / "model_store" / "llava-shapes"
COUNT, CHUNK = 24, 4
_CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={other}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=3
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a Slurm of one node, started without systemd."""
    lacking = [program for program in PROGRAMS if not Path(program).exists()]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"no Slurm is installed ({', '.join(lacking)})" if lacking else "munge needs root")
    # Munge wants every folder above its socket to be open to all, and sockets have short names.
    folder = Path(f"/tmp/gaze-slurm-{os.getpid()}")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    munge, key = folder / "munge", folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (munge, key):
        shutil.chown(path, "munge", "munge")
    munge.chmod(0o711)
    files = (f"--{name}-file={munge / name}" for name in ("key", "log", "pid", "seed"))
    command = ["runuser", "-u", "munge", "--", PROGRAMS[0], "--force", *files, f"--socket={munge / 'sock'}"]
    subprocess.run(command, check=True)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, other = one.getsockname()[1], two.getsockname()[1]
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(_CONF.format(host=host, folder=folder, port=port, other=other, cpus=os.cpu_count()), "utf-8")
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    try:
        for program in PROGRAMS[1:3]:
            subprocess.run([program, "-f", str(conf)], check=True, env=environment)
        until(lambda: "idle" in told(environment, "sinfo", "-h", "-o", "%t"))
        yield environment
    finally:
        for pid in (folder / "slurmd.pid", folder / "slurmctld.pid", munge / "pid"):
            if pid.exists():
                os.kill(int(pid.read_text("utf-8")), 15)
        shutil.rmtree(folder, ignore_errors=True)


def told(environment: dict[str, str], *command: str) -> str:
    """What a command of Slurm says."""
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment).stdout


def until(there: object, seconds: float = 300) -> None:
    """Waits for something."""
    assert callable(there)
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.long
def test_an_array_with_a_requeue_does_everything_once(
    slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    for n in range(COUNT):
        (images / f"{n:02}.png").write_bytes(scene_bytes(192, 192, seed=n))
    asked = ["images", "--prompt", "Describe the image.", "-o", "out", "--chunk", str(CHUNK), "--engine", str(MODEL)]
    assert main(["slurm", "--tasks", "2", "--sbatch=--cpus-per-task=1", "--", *asked, "--device", "cpu"]) == 0
    (tmp_path / "job.sh").write_text(capsys.readouterr().out, "utf-8")
    job = told(slurm, "sbatch", "--parsable", "job.sh").strip()
    parts = tmp_path / "out" / "parts"
    until(lambda: list(parts.glob("*.tar")))
    told(slurm, "scontrol", "requeue", f"{job}_0")
    # A requeued task rests for two minutes; not here.
    until(lambda: "PD" in told(slurm, "squeue", "-h", "-r", "-j", f"{job}_0", "-o", "%t"))
    told(slurm, "scontrol", "update", f"jobid={job}_0", "starttime=now")
    until(lambda: not told(slurm, "squeue", "-h"))
    logs = "".join(path.read_text("utf-8") for path in tmp_path.glob("gaze-out-*.log"))
    with Store(tmp_path / "out") as store:
        assert sorted(store) == [f"{n:02}.png" for n in range(COUNT)], logs
        assert [row["error"] for row in store.rows()] == [None] * COUNT
    assert "restart 1" in logs
