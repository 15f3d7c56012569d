"""Runs on a real Ray cluster of this machine: whole, with an actor killed, with the driver killed, and refused."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from integration.test_runs import asked, data_of, without_run
from llava_viewer.cli import main
from llava_viewer.runs import on_ray
from llava_viewer.store import Store

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
ITEMS = 24


@pytest.fixture(scope="module", autouse=True)
def cluster_can_start() -> None:
    """Containers without shared memory, or without an address of their own, start no cluster."""
    command = [sys.executable, "-c", "import ray; ray.init(include_dashboard=False); ray.shutdown()"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Ray cluster starts on this machine: {(error.stderr or b'')[-300:]!r}")


def started(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The command on Ray, its lines for people readable."""
    command = [sys.executable, "-m", "llava_viewer.cli", *asked(data, out), "--max-new-tokens", "4", "--ray", *more]
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def until(driver: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line like this that it says."""
    assert driver.stderr is not None
    said = []
    for line in driver.stderr:
        said.append(line)
        if (found := re.search(pattern, line)) is not None:
            return found
    raise AssertionError(f"ended without {pattern!r}: {''.join(said)}")


def wait_for_parts(out: Path, count: int, driver: subprocess.Popen[str]) -> None:
    while len(list(out.glob("parts/*.tar"))) < count:
        assert driver.poll() is None
        time.sleep(0.005)


@pytest.mark.long
def test_an_actor_and_then_the_driver_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    data, out, calm = data_of(tmp_path, ITEMS), tmp_path / "out", tmp_path / "calm"
    assert main([*asked(data, calm), "--max-new-tokens", "4"]) == 0
    driver = started(data, out, "1")
    pid = int(until(driver, r"first of 1 workers \(process (\d+) on ")[1])
    wait_for_parts(out, 1, driver)
    os.kill(pid, signal.SIGKILL)
    wait_for_parts(out, 3, driver)  # by the actor that was started in its place
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    again = started(data, out, "1")
    _, said = again.communicate(timeout=240)
    assert (again.returncode, "are there already" in said) == (0, True), said
    with Store(out) as found, Store(calm) as expected:
        assert list(found) == [f"q{n}" for n in range(ITEMS)]
        assert [without_run(found.read(id)) for id in found] == [without_run(expected.read(id)) for id in expected]


def test_what_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = data_of(tmp_path, 4), tmp_path / "out"
    assert main([*asked(data, out), "--ray", "999"]) == 1
    assert "--ray: got 999 workers of 1 CPU each, expected up to the" in capsys.readouterr().err
    assert main(["run", str(data), "-o", str(out), "--ray"]) == 2
    assert "--ray: got it without --engine" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*asked(data, out), "--ray", "1"]) == 1
    assert "expected the package ray; install the extra `ray`" in capsys.readouterr().err


@pytest.mark.parametrize("failures", [1, 9])
def test_a_cluster_that_does_not_start_is_tried_again_and_told(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    ray, lines, tries = importlib.import_module("ray"), list[str](), list[bool]()
    start = ray.init

    def init(**options: Any) -> Any:
        tries.append(True)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup.\nMore")  # as Ray does
        return start(**options)

    monkeypatch.setattr(ray, "init", init)
    if failures == 1:
        on_ray.spread(lambda: None, 1, lambda: "1 of 1 parts", lines.append)
        assert (len(tries), lines[-1]) == (2, "1 of 1 parts")
    else:
        with pytest.raises(on_ray.RequestError, match=r"^--ray: got no cluster after 3 tries \(The current node timed"):
            on_ray.spread(lambda: None, 1, lambda: "1 of 1 parts", lines.append)
        assert len(tries) == 3
    assert lines[0] == "Ray did not start (The current node timed out during startup.); trying again"


def test_a_worker_that_cannot_go_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def fails() -> None:
        raise ValueError("got no model, expected one")

    with pytest.raises(on_ray.RequestError, match="got no model, expected one; what is finished stays"):
        on_ray.spread(fails, 1, lambda: "0 of 1 parts", lines.append)
    assert "worker 0 ended: got no model, expected one" in lines
