"""Every question that a document asks about a picture of the demo has a right answer, and the small model gives it."""

from __future__ import annotations

import random
import re

import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from servekit.paths import MODEL_STORE as STORE
from support.examples import DOCUMENTS, questions_of
from things import demo_tasks
from things.questions import ask

TEXTS = {path.name: path.read_text("utf-8") for path in DOCUMENTS}
TASKS = {task.name: task for task in demo_tasks.tasks()}
ASKED = sorted({(name, *pair) for name, text in TEXTS.items() for pair in questions_of(text)})


def right_answer(picture: str, question: str) -> str:
    """What is right by the scene: for the demo's own question about this picture, and for a description."""
    task = TASKS[picture]
    assert task.scene is not None
    described = ask(random.Random(0), task.scene.layout, "describe")
    assert described is not None
    known = {one.text: one.answer for one in (task.question, described)}
    assert question in known, f"expected about {picture}: {', '.join(known)}"
    return known[question]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(STORE / demo_tasks.MODEL, device="cpu", dtype="float32")


@pytest.mark.parametrize(("document", "picture", "question"), ASKED)
def test_the_question_fits_its_picture(engine: Engine, document: str, picture: str, question: str) -> None:
    [record] = engine.run([GenerateRequest.build(TASKS[picture].picture, question, {})])
    assert isinstance(record, Record)
    assert record.answer == right_answer(picture, question), document


def test_no_example_asks_the_small_model_about_another_picture() -> None:
    sent = r"image=@(\S+)|llava-viewer predict (\S+)|predict\(Path\(\"([^\"]+)\"\)|base64 -w0 ([^)\s]+)"
    for name, text in TEXTS.items():
        for found in re.finditer(sent, text):
            picture = next(filter(None, found.groups()))  # before.png: of models that take several
            assert picture.startswith(("demo-out/", "...", "FILE", "before.png")), f"{name}: {found[0]}"
    assert len(ASKED) >= 6
