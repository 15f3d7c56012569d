"""TorchServe gives its worker the GPU, and records say so; HTTP, gRPC and a stream give one record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from build_mar import build

from support.asking import MODEL, Asker, running_server
from support.pictures import scene_bytes


@pytest.fixture(scope="module")
def served() -> Iterator[Asker]:
    """The small model behind a real TorchServe and its front."""
    build(MODEL)
    with running_server("gpu", timeout_s=120) as asker:
        yield asker


def test_the_worker_answers_from_the_gpu_over_both_protocols(served, device):
    picture, question = scene_bytes(256, 192, 5), "Describe the image."
    form = served.form(picture, question, {"max_new_tokens": 16})
    assert form.record().facts.model.device.startswith(device)
    assert served.grpc(picture, question, {"max_new_tokens": 16}).lasting() == form.lasting()
