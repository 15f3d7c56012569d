"""TorchServe's gRPC messages, built at run time, are the ones that its description names."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from llava_viewer.client.transport.messages import PREDICTIONS, messages
from servekit.paths import with_sources

ROOT = Path(__file__).parents[3]


def test_bytes_on_the_wire() -> None:
    request_class, response_class = messages()
    request = request_class(model_name="m", input={"image": b"\x00\xff"})
    # Field 1: "m"; field 3: an entry of key "image" and value 00 ff.
    assert request.SerializeToString() == b"\x0a\x01m\x1a\x0b\x0a\x05image\x12\x02\x00\xff"
    assert request_class.FromString(request.SerializeToString()).input["image"] == b"\x00\xff"
    assert response_class.FromString(b"\x0a\x02\x00\xff").prediction == b"\x00\xff"


def test_the_call_is_in_the_description() -> None:
    text = resources.files("llava_viewer.protos").joinpath("inference.proto").read_text("utf-8")
    package, _, service = PREDICTIONS.strip("/").rpartition("/")[0].rpartition(".")
    assert f"package {package};" in text
    assert f"service {service} {{" in text
    assert "rpc Predictions(PredictionsRequest) returns (PredictionResponse)" in text


def test_the_files_are_the_installed_servers() -> None:
    for package in ("ts", "grpc_tools"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "upkeep.build_protos", "--check"],
        env=with_sources(os.environ),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
