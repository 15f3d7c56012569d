"""A real Slurm of one node, started without systemd, and everything of it ended afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MUNGED, CONTROLLER, NODE = "/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd"
_PROGRAMS = (MUNGED, CONTROLLER, NODE, "/usr/bin/sbatch")
WAIT_S = 400.0
"""For anything: a busy machine takes its time."""
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
SlurmdParameters=config_overrides
KillWait=3
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Why no Slurm can be started here; "" where it can."""
    missing = [program for program in _PROGRAMS if not Path(program).exists()]
    if missing:
        return f"no Slurm is installed ({', '.join(missing)})"
    return "" if os.geteuid() == 0 else "munge needs root"


class Slurm:
    """A cluster of this machine alone.

    Args:
        folder: of its files, below folders that are open to all, as munge wants it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, conf = folder, folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(conf)}
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            port, other = one.getsockname()[1], two.getsockname()[1]
        host = socket.gethostname().partition(".")[0]
        # At least as many CPUs as tests have tasks, whatever the machine has.
        cpus = max(os.cpu_count() or 1, 2)
        conf.write_text(_CONF.format(host=host, folder=folder, port=port, other=other, cpus=cpus), "utf-8")

    def start(self) -> None:
        """Starts it, and waits until it takes jobs."""
        munge = self._folder / "munge"
        munge.mkdir()
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (munge, key):
            shutil.chown(path, "munge", "munge")
        munge.chmod(0o711)
        files = (f"--{name}-file={munge / name}" for name in ("key", "log", "pid", "seed"))
        self._run("runuser", "-u", "munge", "--", MUNGED, "--force", *files, f"--socket={munge / 'sock'}")
        for program in (CONTROLLER, NODE):
            self._run(program, "-f", self.environment["SLURM_CONF"])
        until(lambda: "idle" in self.told("sinfo", "-h", "-o", "%t"), self.logs)

    def told(self, *command: str) -> str:
        """What a command says on its output; nothing where it fails, as it may while the controller is busy."""
        return subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment).stdout

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(path.read_text("utf-8", "replace")[-2000:] for path in sorted(self._folder.glob("*.log")))

    def processes(self) -> list[int]:
        """The daemons and whatever jobs left: all processes that know this cluster's files."""
        mark, found = os.fsencode(self._folder) + b"/", []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                known = mark in (place / "cmdline").read_bytes() or mark in (place / "environ").read_bytes()
                if known and int(place.name) != os.getpid() and _alive(place):
                    found.append(int(place.name))
        return found

    def end(self) -> None:
        """Ends its jobs and daemons; what does not end by itself is killed."""
        self.told("scancel", "--full", "--user=root")
        with contextlib.suppress(AssertionError):
            until(lambda: not self.told("squeue", "-h"), seconds=20)
        for way in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, way)
            with contextlib.suppress(AssertionError):
                until(lambda: not self.processes(), seconds=20)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, env=self.environment, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def one_node() -> Iterator[Slurm]:
    """A cluster that is there for a while."""
    # Sockets have short names, and munge wants every folder above its own to be open to all.
    folder = Path(tempfile.mkdtemp(prefix="gaze-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    slurm = Slurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.end()
        left = slurm.processes()
        shutil.rmtree(folder, ignore_errors=True)
        assert not left


def until(there: Callable[[], object], why: Callable[[], str] = str, seconds: float = WAIT_S) -> None:
    """Waits for something.

    Args:
        there: whether it is there.
        why: what to say where it does not come.
    """
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


def _alive(place: Path) -> bool:
    return (place / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] not in "ZX"
