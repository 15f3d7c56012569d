"""Ports of a server, and the other settings of config.properties against what the models allow."""

from __future__ import annotations

import re
import socket

import pytest

from servekit import models, paths, ports
from servekit.paths import SetupError


def test_ports_of_the_file_auto_and_numbered() -> None:
    properties = ports.read_properties()
    assert ports.resolve_ports(None, properties).all() == {
        "http": 8080,
        "management": 8081,
        "metrics": 8082,
        "grpc": 7070,
        "grpc_management": 7071,
    }
    assert list(ports.resolve_ports("9100", properties).all().values()) == [9100, 9101, 9102, 9103, 9104]
    free = ports.resolve_ports("auto", properties)
    ports.require_free(free)
    assert len(set(free.all().values())) == 5
    # Java takes them seconds later; until then no outgoing connection may be given one.
    assert max(free.all().values()) < ports._first_outgoing()


@pytest.mark.parametrize("choice", ["x", "80", "65533", "-1"])
def test_impossible_ports(choice: str) -> None:
    with pytest.raises(SetupError, match=r"ports: got .*, expected"):
        ports.resolve_ports(choice, ports.read_properties())


def test_an_occupied_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(SetupError, match=rf"http port {number} in use.*make stop.*PORT=auto"):
            ports.require_free(ports.Ports("127.0.0.1", number, 1, 2, 3, 4))


def test_other_ports_change_addresses_only() -> None:
    properties = ports.read_properties()
    changed = ports.with_ports(properties, ports.Ports("127.0.0.1", 1, 2, 3, 4, 5))
    assert changed["inference_address"] == "http://127.0.0.1:1"
    assert (changed["grpc_inference_port"], changed["grpc_management_port"]) == ("4", "5")
    assert changed["max_request_size"] == properties["max_request_size"]


def test_the_front_end_takes_more_than_every_model_allows() -> None:
    """Otherwise TorchServe refuses with an empty body, or kills a worker that answers too much."""
    properties = ports.read_properties()
    for model in paths.model_names():
        limits = models.read_model_yaml(model)["handler"]["limits"]
        text = 4 * limits["max_prompt_chars"] + (1 << 20)
        assert int(properties["max_request_size"]) > limits["max_image_bytes"] * 4 // 3 + text
        assert int(properties["max_response_size"]) > limits["max_response_bytes"] * 4 // 3 + (1 << 20)


def test_timeouts_and_memory_hold_what_models_allow() -> None:
    """A worker that still has time is not given up; a queue full of the largest requests fits into Java's memory."""
    properties = ports.read_properties()
    [heap] = re.findall(r"-Xmx(\d+)g", properties["vmargs"])
    assert not {"default_response_timeout", "default_startup_timeout"} & set(properties), (
        "ignored beside a model's YAML"
    )
    for model in paths.model_names():
        content = models.read_model_yaml(model)
        limits = content["handler"]["limits"]
        assert content["responseTimeout"] * 1000 > limits["deadline_ms"] + 10_000
        assert content["startupTimeout"] >= content["responseTimeout"]
        assert int(properties["job_queue_size"]) * limits["max_image_bytes"] * 4 // 3 < int(heap) << 30
        assert int(properties["job_queue_size"]) >= content["batchSize"]


def test_every_setting_is_explained() -> None:
    lines = paths.CONFIG.read_text(encoding="utf-8").splitlines()
    settings = [i for i, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    grouped = [i for i in settings if not lines[i - 1].startswith("#") and i - 1 not in settings]
    assert grouped == []


def test_inner_ports_are_none_of_the_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = ports.Ports("127.0.0.1", 5001, 5002, 5003, 5004, 5005)
    monkeypatch.setattr(ports, "_free_ports", lambda host, count: list(range(5000, 5000 + count)))
    inner = ports.behind(outer)
    assert (inner.http, inner.grpc) == (5000, 5006)
    assert (inner.management, inner.metrics, inner.grpc_management) == (5002, 5003, 5005)
