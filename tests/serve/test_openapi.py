"""The server keeps what docs/openapi.yaml says: schemathesis draws requests from it, sound and broken, and judges.

A picture, a record and short answers are put into the document first: of itself a schema draws no picture.
"""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from llava_server.ask.options import KNOWN
from llava_wire import encode
from stress.fuzzing.judge import FRONT_END
from support.asking import MODEL, Asker

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import load_all_checks  # noqa: E402
from schemathesis.specs.openapi import checks  # noqa: E402

pytestmark = pytest.mark.serve
load_all_checks()
DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text("utf-8"))
PATH = "/predictions/{model}"
PASSES = ("steps", "masks")
"""Parameters of methods that say how many passes there are."""
JSON, FORM = "application/json", "multipart/form-data"
JUDGES = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def document(picture: bytes, record: bytes, kind: str, *, is_short: bool = True) -> dict[str, Any]:
    """The document with bodies of one kind, a sound picture and record, this model, and answers that are short.

    The key is the test's own, and every request has it. Where requests are to break the document, its own bounds stay
    (`is_short=False`): what lies between them and the shorter ones is sound.
    """
    said = copy.deepcopy(DOCUMENT)
    operation, schemas = said["paths"][PATH]["post"], said["components"]["schemas"]
    del said["security"]
    operation["parameters"][0]["schema"] = {"enum": [MODEL]}
    if kind == JSON:
        del operation["parameters"][1:]
    operation["requestBody"]["content"] = {kind: operation["requestBody"]["content"][kind]}
    for whole in ("Question", "Replay"):
        for name, data in (("image", picture), ("record", record)):
            if name in schemas[whole]["properties"]:
                schemas[whole]["properties"][name] = {"enum": [base64.b64encode(data).decode()]}
        schemas[whole]["properties"]["images"] = {"enum": [[base64.b64encode(picture).decode()]]}
    if not is_short:
        return said
    schemas["Options"]["properties"]["max_new_tokens"]["maximum"] = 12
    schemas["Options"]["properties"]["stream"] = {"const": False}
    for name in ("num_beams", "num_return_sequences"):
        schemas["Options"]["properties"][name]["maximum"] = 3
    schemas["Index"]["maximum"] = 5
    for fit in schemas["ParametersFit"]["anyOf"]:
        for name, one in fit["properties"]["parameters"].get("properties", {}).items():
            if name in PASSES:
                one["maximum"] = one["minimum"] + 1
    return said


def fired(asker: Asker, picture: bytes, kind: str, mode: Any, count: int) -> dict[int, int]:
    """How often each status came back of `count` requests; an exception names the first that breaks the document."""
    record = encode(asker.form(picture, "Is there a blue square?", {"max_new_tokens": 4}).record())
    schema = schemathesis.openapi.from_dict(
        document(picture, record, kind, is_short=mode is GenerationMode.POSITIVE or kind == FORM)
    )
    schema.config.update(base_url=asker.state.http)
    # A text longer than the document lets it be is refused as too large.
    refusing = schema.config.checks.negative_data_rejection
    refusing.expected_statuses = [*refusing.expected_statuses, "413"]
    statuses: dict[int, int] = {}

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=schema[PATH]["POST"].as_strategy(generation_mode=mode))
    def fire(case: Any) -> None:
        reply = case.call(headers=asker.auth(), timeout=120)
        statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
        asked = [*JUDGES, *([checks.negative_data_rejection] if mode is GenerationMode.NEGATIVE else [])]
        case.validate_response(reply, checks=asked)
        said = json.loads(reply.text) if reply.status_code >= 400 and reply.text else {}
        error = said.get("error", {})
        assert error.get("code") != "internal", error
        # What else is refused, TorchServe refuses in words of its own.
        assert reply.status_code != 500 or (500, said.get("type")) in FRONT_END, said

    fire()
    return statuses


def test_sound_requests_get_what_the_document_says(asker: Asker, picture: bytes) -> None:
    assert fired(asker, picture, JSON, GenerationMode.POSITIVE, 16).get(200, 0) > 2


def test_broken_requests_are_refused_as_the_document_says(asker: Asker, picture: bytes) -> None:
    statuses = fired(asker, picture, JSON, GenerationMode.NEGATIVE, 40)
    assert statuses.keys() <= {400, 404, 413, 415, 422}
    assert statuses.get(400, 0) + statuses.get(422, 0) > 5


def test_forms_get_what_the_document_says(asker: Asker, picture: bytes) -> None:
    statuses = fired(asker, picture, FORM, GenerationMode.POSITIVE, 8)
    assert statuses.keys() <= {200, 400, 413, 415, 422}


@pytest.mark.long
@pytest.mark.parametrize("kind", [JSON, FORM])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_requests_of_the_document(asker: Asker, picture: bytes, kind: str, mode: Any) -> None:
    assert sum(fired(asker, picture, kind, mode, 300).values()) > 250


def test_every_option_can_be_drawn(asker: Asker, picture: bytes) -> None:
    """A document whose conditions let nothing through would draw nothing."""
    schema = schemathesis.openapi.from_dict(document(picture, b"record", JSON))
    drawn: set[str] = set()

    @settings(max_examples=100, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=schema[PATH]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def look(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("options"), dict):
            drawn.update(case.body["options"])

    look()
    assert len(drawn) > len(KNOWN) * 2 // 3
