"""Checks of an answer through a real server: over every way in, and of a record that exists by the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_eval.metric import evaluate
from llava_viewer.cli import main
from llava_viewer.client import Client
from llava_wire import decode, encode
from llava_wire.findings.patches import PatchCheck
from support.asking import Asker

pytestmark = pytest.mark.serve
PROMPT = "Describe the image from left to right."
CHECKS = ["image", {"name": "patches", "view": "next-object", "sets": 4}]


def test_form_json_grpc_and_a_stream_find_the_same(asker: Asker, picture: bytes) -> None:
    form = asker.form(picture, PROMPT, {"check": CHECKS}).record()
    fields = {"image": picture, "prompt": PROMPT.encode(), "options": json.dumps({"check": CHECKS}).encode()}
    grpc = asker.grpc_map(fields).record()
    assert encode(form.without_run()) == encode(grpc.without_run())
    key = Path(asker.state.key_file)
    with Client.http(asker.state.http, token=key) as client:
        *_, streamed = client.stream(picture, PROMPT, {"check": CHECKS}, keep_picture=False)
    assert streamed.facts.checks["patches"] == form.facts.checks["patches"]
    refused = asker.form(picture, PROMPT, {"check": [{"name": "patches", "view": "x"}]}).error
    assert (refused["status"], refused["field"]) == (422, "options.check[0].view")


def test_a_client_is_a_scorer_for_metrics_over_both_transports(asker: Asker, picture: bytes) -> None:
    record = asker.form(picture, PROMPT, {}).record()
    keep = np.random.default_rng(0).random((30, 64)) < 0.5
    key = Path(asker.state.key_file)
    with Client.http(asker.state.http, token=key) as http, Client.grpc(asker.state.grpc, token=key) as grpc:
        scorers = [client.scorer(record, [3, 4], image=picture) for client in (http, grpc)]
        found = [scorer.log_probs(keep) for scorer in scorers]
        score = evaluate("top_alone", record.map(4), record.geometry.patch_rects(), [(0, 0, 9, 9)], scorers[0])
    np.testing.assert_allclose(*found, atol=1e-5)
    assert np.ptp(found[0]) > 0.1
    assert score.control is not None
    assert score.value > score.control


def test_the_command_tests_a_record_and_changes_nothing_else(
    asker: Asker, picture: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run, new, page = (tmp_path / name for name in ("x.png", "run.npz", "new.npz", "new.html"))
    file.write_bytes(picture)
    server = ["--url", asker.state.http, "--key-file", asker.state.key_file]
    several = ["--check", "none", "--temperature", "4", "--seed", "1", "--num-return-sequences", "2"]
    assert main(["predict", str(file), PROMPT, *server, *several, "-o", str(run)]) == 0
    old = decode(run.read_bytes())
    assert "image" not in old.facts.checks
    capsys.readouterr()
    wanted = ["--sequence", "1", "--view", "next-object", "-o", str(new), "--report", str(page)]
    assert main(["check", str(run), *server, *wanted]) == 0
    said = capsys.readouterr().out
    assert "Needs the image: " in said
    assert "Unchanged when hidden does not mean unused." in said
    checked = decode(new.read_bytes())
    assert encode(replace(checked, alternatives=())) == encode(replace(old, alternatives=()))
    [before], [after] = old.alternatives, checked.alternatives
    found = PatchCheck.of_checks(after.facts.checks, len(after.tokens), 64)
    assert found is not None
    assert found.view == "next-object"
    plain = replace(after, facts=replace(after.facts, checks=before.facts.checks, tokens=before.facts.tokens))
    assert encode(plain) == encode(before)
    asked = asker.form(picture, PROMPT, {"temperature": 4.0, "seed": 1, "num_return_sequences": 2, "check": CHECKS})
    [direct] = asked.record().alternatives
    same = PatchCheck.of_checks(direct.facts.checks)
    assert same is not None
    np.testing.assert_allclose([w.alone for w in found.words], [w.alone for w in same.words], atol=1e-4)
    assert [w.patches for w in found.words] == [w.patches for w in same.words]
    assert "What it took" in page.read_text("utf-8")
    assert main(["check", str(run), *server, "--view", "nothing"]) == 1
    assert "view: got 'nothing'" in capsys.readouterr().err
