"""Replays and several sequences through a real server, over every way in, with the project's client and command."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.cli.console import printable
from llava_viewer.client import Client
from llava_wire import RequestError, decode, encode
from support.asking import NPZ, Asker

pytestmark = pytest.mark.serve
PROMPT = "Describe the image from left to right."
LAYERS = {"layers": "all", "heads": "all", "reduction": "heads", "precision": "float32"}


@pytest.fixture
def clients(asker: Asker):
    """Both clients, by transport."""
    key = Path(asker.state.key_file)
    with Client.http(asker.state.http, token=key) as http, Client.grpc(asker.state.grpc, token=key) as grpc:
        yield {"http": http, "grpc": grpc}


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_replay_gives_the_views_that_could_have_been_asked_for(clients, transport, picture: bytes) -> None:
    client = clients[transport]
    first = client.predict(picture, PROMPT, temperature=3.0, seed=8)
    expected = client.predict(picture, PROMPT, LAYERS, temperature=3.0, seed=8)
    again = client.replay(first, LAYERS)
    assert again.answer == first.answer
    assert again.facts.sampling == first.facts.sampling
    assert again.run["decoder"] == "replay"
    np.testing.assert_allclose(again.maps_float(), expected.maps_float(), atol=1e-5, rtol=0)
    assert again.picture == first.picture


def test_form_json_and_grpc_give_the_same_replay(asker: Asker, picture: bytes) -> None:
    record = encode(asker.form(picture, PROMPT).record().without_run())
    options = json.dumps(LAYERS)
    files = {
        "image": ("x.png", picture, "image/png"),
        "record": ("run.npz", record, NPZ),
        "options": (None, options.encode()),
    }
    form = asker.post(files=files, headers={"Accept": NPZ})
    assert form.status == 200, form.body[:500]
    fields = {"image": base64.b64encode(picture).decode(), "record": base64.b64encode(record).decode()}
    assert asker.post(json={**fields, "options": LAYERS}, headers={"Accept": NPZ}).lasting() == form.lasting()
    over_grpc = asker.grpc_map({"image": picture, "record": record, "options": options.encode()})
    assert over_grpc.lasting() == form.lasting()


def test_refused_replays_name_the_field_and_harm_nothing(asker: Asker, picture: bytes) -> None:
    record = encode(asker.form(picture, PROMPT).record())
    cases = [
        ({"image": picture, "record": b"PK\x03\x04nonsense"}, 422, "record"),
        ({"image": picture, "record": record, "prompt": b"What?"}, 400, "prompt"),
        ({"record": record}, 400, "image"),
        ({"image": picture, "record": record, "options": b'{"max_new_tokens": 3}'}, 422, "options.max_new_tokens"),
        ({"image": picture[:200], "record": record}, 422, "image"),
    ]
    for fields, status, field in cases:
        error = asker.grpc_map(fields).error
        assert (error["status"], error["field"]) == (status, field), error
    assert asker.form(picture, PROMPT).status == 200


def test_beams_and_samples_come_as_one_record(clients, picture: bytes) -> None:
    beams = clients["http"].predict(picture, PROMPT, num_beams=3, num_return_sequences=3, max_new_tokens=12)
    scores = [beams.sequence(i).facts.sampling["score"] for i in range(3)]
    assert scores == sorted(scores, reverse=True)
    samples = clients["grpc"].predict(picture, PROMPT, temperature=4.0, seed=1, num_return_sequences=2)
    assert [samples.sequence(i).facts.sampling["seed"] for i in range(2)] == [1, 2]
    assert samples.sequence(1).picture == samples.picture
    with pytest.raises(RequestError, match="num_return_sequences"):
        clients["http"].predict(picture, PROMPT, num_return_sequences=2)


def test_the_json_form_lists_the_alternatives(asker: Asker, picture: bytes) -> None:
    options = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 8}
    content = json.loads(asker.form(picture, PROMPT, options, accept="application/json").body)
    record = decode(base64.b64decode(content["npz_base64"]))
    assert [other["answer"] for other in content["alternatives"]] == [other.answer for other in record.alternatives]


def test_the_command_replays_and_renders_another_sequence(
    asker: Asker, picture: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_bytes(picture)
    server = ["--url", asker.state.http, "--key-file", asker.state.key_file]
    run, layers, page = (str(tmp_path / name) for name in ("run.npz", "layers.npz", "second.html"))
    samples = ["--temperature", "4", "--seed", "1", "--num-return-sequences", "2", "-o", run]
    assert main(["predict", str(tmp_path / "x.png"), PROMPT, *server, *samples]) == 0
    answers = capsys.readouterr().out.splitlines()
    record = decode(Path(run).read_bytes())
    assert answers == [printable(record.answer), printable(record.alternatives[0].answer)]
    wanted = ["--layers", "1,2", "--heads", "all", "--reduction", "heads", "-o", layers]
    assert main(["replay", run, "--sequence", "1", *server, *wanted]) == 0
    assert capsys.readouterr().out.rstrip("\n") == printable(record.alternatives[0].answer)
    again = decode(Path(layers).read_bytes())
    assert again.views["selection"].facts.layers == (1, 2)
    assert main(["render", run, "--sequence", "1", "-o", page]) == 0
    assert "answer 2 of 2" in Path(page).read_text("utf-8")
    assert main(["render", run, "--sequence", "2"]) == 1
    assert "sequence: got 2, expected 0 to 1" in capsys.readouterr().err
