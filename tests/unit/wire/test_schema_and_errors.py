"""Facts and errors keep their meaning through JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from llava_wire.errors import STATUSES, RecordError, RequestError, nearest
from llava_wire.plain import from_plain, to_plain
from llava_wire.schema import Annotations, Facts, Query
from support.synthetic import make_record


@dataclass(frozen=True)
class Sample:
    """A dataclass with each kind of field that the schema knows."""

    whole: int
    real: float
    kind: Literal["a", "b"]
    pair: tuple[int, int]
    many: tuple[Query, ...] = ()


def test_facts_survive_json() -> None:
    facts = make_record().facts
    tokens = tuple(replace(token, without_image=-1.5) for token in facts.tokens)
    facts = replace(facts, tokens=tokens, annotations=Annotations("red", "exact", False, ("a",)))
    assert from_plain(Facts, json.loads(json.dumps(to_plain(facts)))) == facts


def test_integers_may_stand_for_floats_and_unknown_keys_are_ignored() -> None:
    found = from_plain(Sample, {"whole": 1, "real": 2, "kind": "a", "pair": [3, 4], "later": None})
    assert found == Sample(1, 2.0, "a", (3, 4))
    assert isinstance(found.real, float)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"whole": 1.0}, "top.whole"),
        ({"whole": True}, "top.whole"),
        ({"real": float("inf")}, "top.real"),
        ({"real": 10**400}, "top.real"),
        ({"real": "1"}, "top.real"),
        ({"kind": "c"}, "top.kind"),
        ({"kind": []}, "top.kind"),
        ({"pair": [1]}, "top.pair"),
        ({"pair": [1, "2"]}, "top.pair[1]"),
        ({"many": {}}, "top.many"),
        ({"many": [{"kind": "answer", "token": 0, "position": 0}]}, "top.many[0]"),
        ({"many": [{"kind": "answer", "token": 0, "position": 0, "step": None}]}, "top.many[0].step"),
    ],
)
def test_the_first_value_that_does_not_fit_is_named(change: dict[str, object], path: str) -> None:
    plain = {"whole": 1, "real": 1.0, "kind": "a", "pair": [1, 2], **change}
    with pytest.raises(RecordError) as caught:
        from_plain(Sample, plain, "top")
    assert str(caught.value).startswith(f"{path}: got ")
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("code", STATUSES)
def test_a_request_error_survives_its_body(code: str) -> None:
    error = RequestError(code, "options.layers[1]", "got 9, expected 0..3; take a smaller one")
    back = RequestError.from_body(json.loads(json.dumps(error.to_body())))
    assert back is not None
    assert (back.code, back.status, back.field, back.message) == (code, STATUSES[code], error.field, error.message)
    assert str(back) == "options.layers[1]: got 9, expected 0..3; take a smaller one"


@pytest.mark.parametrize(
    "body",
    [None, [], "error", {}, {"error": None}, {"error": "x"}, {"error": {}}, {"error": {"code": "odd"}},
     {"error": {"code": []}}, {"error": {"code": 404}}, {"code": 404, "type": "T", "message": "m"}],
)  # fmt: skip
def test_other_bodies_are_not_request_errors(body: object) -> None:
    assert RequestError.from_body(body) is None


def test_unknown_codes_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="got 'odd', expected"):
        RequestError("odd", "image", "x")


def test_nearest_name() -> None:
    assert nearest("layer", ["layers", "heads"]) == "; did you mean 'layers'?"
    assert nearest("zzz", ["layers", "heads"]) == ""
