"""A run by the pods of an indexed job: the manifest is one of Kubernetes, and its command does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from llava_viewer.cli import main
from llava_viewer.store import Store
from servekit.paths import ROOT
from support.pictures import scene_bytes

VERSIONS = ("1.33", kubernetes_validate.latest_version())
COUNT, CHUNK = 24, 4


def manifest(capsys: pytest.CaptureFixture[str], *asked: str, options: str = "--tasks 2") -> dict[str, Any]:
    """What the command prints, held against the schema."""
    assert main(["kubernetes", "--image", "llava-gaze", "--volume", "data", *options.split(), "--", *asked]) == 0
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    for version in VERSIONS:
        kubernetes_validate.validate(found, version, strict=True)
    return found


def refused(capsys: pytest.CaptureFixture[str], *asked: str, options: str = "") -> str:
    """What the command refuses, in words."""
    code = main(["kubernetes", "--image", "llava-gaze", "--volume", "data", *options.split(), "--", *asked])
    assert code == 2
    return capsys.readouterr().err


def expanded(argument: str, index: int) -> str:
    """An argument as the container gets it: $$ is a dollar, and $(WORKER) the pod's index."""
    return re.sub(r"\$\$|\$\(WORKER\)", lambda match: "$" if match[0] == "$$" else str(index), argument)


def test_the_manifest_is_one_whatever_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = 'a $(WORKER), $$(WORKER), $$ or $: "quoted"\n{% \u00c4 \u2028 \U0001f600 %}'
    asked = ["q.jsonl", "-o", "Some/Out put", "--engine", "/opt/m", "--prompt", prompt]
    found = manifest(capsys, *asked, options="--tasks 3 --gpus 2 --memory 64Gi")
    spec = found["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    [worker] = spec["template"]["spec"]["containers"]
    name = found["metadata"]["name"]
    assert [expanded(one, 2) for one in worker["args"]] == [*asked, "--worker", f"{name}-2"]
    assert worker["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    # A pod's name has up to 63 characters: with its index and five of its own.
    assert len(f"{manifest(capsys, 'd', '-o', 'x' * 200, '--engine', 'm')['metadata']['name']}-9999-abcde") <= 63


def test_the_image_is_the_containers() -> None:
    """The manifest's command, user and extras are what the container file makes."""
    text = (ROOT / "conf" / "deploy" / "Containerfile").read_text("utf-8")
    assert "WORKDIR /opt/llava-gaze\n" in text
    assert "python -m venv .venv" in text
    assert "useradd --uid 10001 " in text
    assert "'.[http,grpc,server,table]'" in text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("q.jsonl -o /elsewhere/out --engine m", "got -o /elsewhere/out, expected a folder in /data"),
        ("q.jsonl -o ../out --engine m", "got -o ../out, expected a folder in /data"),
        ("q.jsonl -o out", "got neither --engine nor --url"),
        ("q.jsonl -o out --engine m --worker a", "got --worker for the tasks"),
        ("q.jsonl -o out --engine m --dry-run", "got --dry-run for the tasks"),
    ],
)
def test_what_pods_cannot_do_is_refused(capsys: pytest.CaptureFixture[str], asked: str, says: str) -> None:
    assert says in refused(capsys, *asked.split())


def pod(found: dict[str, Any], index: int) -> subprocess.Popen[bytes]:
    """The container of a pod: process 1 of its own, with a host's name of its own, its variables filled in."""
    [worker] = found["spec"]["template"]["spec"]["containers"]
    arguments = [expanded(one, index) for one in worker["args"]]
    command = shlex.join([sys.executable, *worker["command"][1:], *arguments])
    host = f"hostname {found['metadata']['name']}-{index} && exec {command}"
    return subprocess.Popen(
        ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", host],
        stdout=subprocess.DEVNULL,
    )


def claimed(out: Path) -> list[str]:
    """The names of the workers that have claims."""
    names = []
    for path in (out / "claims").glob("0*.claim"):
        try:
            plain = json.loads(path.read_text("utf-8"))
        except OSError:
            continue
        assert plain["pid"] == 1
        names.append(plain["worker"])
    return names


@pytest.mark.long
def test_pods_share_a_run_and_one_that_was_killed_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("containers of processes need root")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for n in range(COUNT):
        (tmp_path / "images" / f"{n:02}.png").write_bytes(scene_bytes(192, 192, seed=n))
    model = str(ROOT / "model_store" / "llava-shapes")
    asked = ["images", "--prompt", "Describe the image.", "-o", "out", "--chunk", str(CHUNK), "--engine", model]
    found = manifest(capsys, *asked, "--device", "cpu")
    out, pods = tmp_path / "out", {index: pod(found, index) for index in range(2)}
    end = time.monotonic() + 300
    while not (names := claimed(out)):
        assert time.monotonic() < end
        time.sleep(0.05)
    killed = int(names[0].rpartition("-")[2])
    pods[killed].kill()
    pods[killed].wait()
    pods[killed] = pod(found, killed)
    assert [one.wait(timeout=300) for one in pods.values()] == [0, 0]
    with Store(out) as store:
        assert sorted(store) == [f"{n:02}.png" for n in range(COUNT)]
        assert [row["error"] for row in store.rows()] == [None] * COUNT
    assert not list((out / "claims").iterdir())
