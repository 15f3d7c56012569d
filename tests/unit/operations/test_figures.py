"""Figures have one list of names: the code's; TorchServe's file, the documentation and the dashboard agree with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml

from llava_server.front.metrics import KINDS, of_batch, of_request
from servekit.paths import LOG_CONFIG, METRICS_CONFIG, ROOT

CONTENT = yaml.safe_load(METRICS_CONFIG.read_text("utf-8"))
_SUFFIXES = r"_(?:bucket|sum|count)$"


def test_torchserve_is_told_of_every_figure() -> None:
    told = {
        metric["name"]: (kind, metric["unit"], metric["dimensions"])
        for kind, metrics in CONTENT["model_metrics"].items()
        for metric in metrics
        if metric["name"].startswith("llava_")
    }
    assert told == {name: (kind.type, kind.unit, ["model", *kind.labels]) for name, kind in KINDS.items()}


def test_every_figure_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for name, kind in KINDS.items():
        labels = ", ".join(f"`{label}`" for label in kind.labels)
        assert f"| `{name}` | {kind.type} | {labels + ' ' if labels else ''}| {kind.what} |" in text


def test_the_dashboard_asks_for_figures_that_exist_and_shows_all_of_them() -> None:
    board = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"[A-Za-z_]\w*(?=[{\[])|(?<=\()[A-Z]\w+(?=\))", query)}
    own = {re.sub(_SUFFIXES, "", name) for name in asked if name.startswith("llava_")}
    assert own == set(KINDS)
    served = {metric["name"] for metrics in CONTENT["ts_metrics"].values() for metric in metrics}
    # TorchServe serves a counter under the file's own name, without Prometheus' _total.
    others = {name for name in asked if not name.startswith("llava_")}
    assert others
    assert others <= served
    labels = {label for query in queries for label in re.findall(r"by \(([^)]*)\)", query)}
    known = {"le", "model", *(label for kind in KINDS.values() for label in kind.labels)}
    assert {label.strip() for group in labels for label in group.split(",")} <= known
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(places)) == len(places)
    assert board["templating"]["list"][1]["query"]["query"] == "label_values(llava_requests_total, model)"


def test_figures_of_a_request_and_a_batch() -> None:
    run = {"preprocess_ms": 1.5, "prefill_ms": 20.0, "decode_ms": 100.0, "attention_ms": 3.0, "decoder": "dynamic"}
    figures = list(of_request("http", "ok", 12, 100, 2000, run))
    assert [figure.value for figure in figures] == [1, 100, 2000, 12, 0.0015, 0.02, 0.1, 0.003]
    refused = list(of_request("grpc", "invalid", 0, 100, 200, {}))
    assert [figure.name for figure in refused] == [
        "llava_requests_total", "llava_request_bytes_total", "llava_reply_bytes_total",
    ]  # fmt: skip
    of_one = list(of_batch(3, 250.0, "9000", [torch.device("cpu")]))
    memory = {figure.labels: figure.value for figure in of_one if figure.labels}
    assert 10_000_000 < memory["9000", "cpu", "used"] <= memory["9000", "cpu", "peak"]
    for figure in (*figures, *refused, *of_one):
        assert len(figure.labels) == len(KINDS[figure.name].labels)


def test_memory_of_several_workers_and_devices_lies_in_series_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: 100 * device.index + len(name))
    places = [torch.device("cuda:1"), torch.device("cuda:0"), torch.device("cuda:1")]
    seen = [figure for worker in ("9000", "9001") for figure in of_batch(1, 1.0, worker, places) if figure.labels]
    assert len({figure.labels for figure in seen}) == len(seen) == 2 * 3 * 2
    assert {figure.labels[1] for figure in seen} == {"cpu", "cuda:0", "cuda:1"}
    assert {figure.value for figure in seen if figure.labels[1:] == ("cuda:1", "used")} == {116}


def test_every_log_file_has_an_end() -> None:
    root = ElementTree.parse(LOG_CONFIG).getroot()
    appenders, loggers = root.find("Appenders"), root.find("Loggers")
    assert appenders is not None
    assert loggers is not None
    files = appenders.findall("RollingFile")
    assert {Path(file.get("fileName", "")).name for file in files} == {
        "access_log.log", "model_log.log", "requests.jsonl", "ts_log.log",
    }  # fmt: skip
    for file in files:
        assert "%i" in file.get("filePattern", "")
        size, rollover = file.find("SizeBasedTriggeringPolicy"), file.find("DefaultRolloverStrategy")
        assert size is not None
        assert rollover is not None
        assert (size.get("size"), rollover.get("max")) == ("20 MB", "5")
    console = appenders.find("Console/ThresholdFilter")
    assert console is not None
    assert console.get("level") == "warn"
    # What TorchServe, its workers and netty log goes to the files above and not on to the console's.
    loud = [logger for logger in loggers.findall("Logger") if logger.get("level") != "off"]
    assert {logger.get("name") for logger in loud} == {
        "ACCESS_LOG", "MODEL_LOG", "io.netty", "org.pytorch.serve", "org.pytorch.serve.wlm.WorkerLifeCycle",
    }  # fmt: skip
    assert all(logger.get("additivity") == "false" for logger in loud)
