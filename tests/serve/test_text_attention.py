"""Words that were read, through a real server: over every way in, of a record that exists, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client
from llava_wire import decode, encode
from support.asking import Asker

pytestmark = pytest.mark.serve
PROMPT = "Is there a blue square?"
VIEWS = {"views": [{"name": "two", "layers": [0, 1], "heads": "all"},
                   {"name": "words", "method": "text_attention", "layers": [0, 1], "heads": "all"}]}  # fmt: skip


def test_form_grpc_a_replay_and_the_command_read_the_same_words(
    asker: Asker, picture: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form = asker.form(picture, PROMPT, VIEWS).record()
    fields = {"image": picture, "prompt": PROMPT.encode(), "options": json.dumps(VIEWS).encode()}
    assert encode(asker.grpc_map(fields).record().without_run()) == encode(form.without_run())
    view = form.texts["words"]
    np.testing.assert_allclose(view.values.sum(1), 1 - form.views["two"].shares[:, 1], atol=1e-4)
    with Client.http(asker.state.http, token=Path(asker.state.key_file)) as client:
        plain = client.predict(picture, PROMPT)
        again = client.replay(plain, VIEWS)
        once_more = client.replay(again, VIEWS)
    np.testing.assert_allclose(again.texts["words"].values, view.values, atol=1e-5)
    np.testing.assert_allclose(once_more.texts["words"].values, view.values, atol=1e-5)
    file, run, page = (tmp_path / name for name in ("x.png", "run.npz", "run.html"))
    file.write_bytes(picture)
    server = ["--url", asker.state.http, "--key-file", asker.state.key_file]
    alone = ["--method", "text_attention", "--layers", "0,1", "--heads", "all", "-o", str(run), "--report", str(page)]
    assert main(["predict", str(file), PROMPT, *server, *alone]) == 0
    record = decode(run.read_bytes())
    assert list(record.views) == list(plain.views), "the default views come beside"
    np.testing.assert_array_equal(record.texts["selection"].values, view.values)
    assert "Words it read" in page.read_text("utf-8")
    capsys.readouterr()
    assert main(["inspect", str(run)]) == 0
    assert "words that selection read" in capsys.readouterr().out
