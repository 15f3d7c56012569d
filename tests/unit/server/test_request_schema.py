"""docs/openapi.yaml and the parser say the same of every JSON body: what one takes the other takes.

Bodies are drawn around the schema, sound and spoilt; `jsonschema` is one judge, `read_request` the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llava_doors.door import CHECKS
from llava_doors.door import METHODS as DOOR
from llava_server.ask.options import DECODING, KNOWN
from llava_server.ask.request import GenerateRequest
from llava_server.front.incoming import Probe, read_request
from llava_wire import RequestError, encode
from llava_wire.codes.quantize import ENCODINGS
from support.synthetic import make_record

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

DOCUMENT = yaml.safe_load((Path(__file__).parents[3] / "docs" / "openapi.yaml").read_text("utf-8"))
BODY = DOCUMENT["paths"]["/predictions/{model}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
JUDGE = jsonschema.Draft202012Validator({**DOCUMENT, **BODY})
HEAD = {"host": "x", "content-type": "application/json"}
PICTURE = base64.b64encode(b"not looked at yet").decode()
RECORD = base64.b64encode(encode(make_record(words=("A", " red"), reductions=("layers_heads",)))).decode()

UNSAYABLE = ("each name once", "a printable name", "1 to num_beams", "something to see", "that UTF-8 can hold")
"""The refusals that JSON Schema has no words for, which the schema's descriptions name."""

WHOLE = (
    st.integers(-1, 5)
    | st.sampled_from([1.0, 2.0, 0.0, -1.0, 1.5, 23607.0, 1e10, 2**31 - 1, 2**31, 2.0**31, 2**63 - 1, 2**63, 2.0**63])
    | st.sampled_from([10**400, True, "1", None, []])
)
REAL = st.sampled_from(
    [0, 0.0, -0.0, 1e-4, 0.001, 0.5, 1, 1.0, 1.5, 10, 100, 100.5, -10, -11, 10**400, True, None, "1"]
)
LISTS = st.lists(WHOLE, max_size=3) | st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)
INDICES = st.just("all") | LISTS | st.sampled_from(["some", None, 3, {}, [1, 1.0]])
PAIRS = st.lists(st.lists(WHOLE, max_size=3) | st.tuples(st.integers(0, 3), st.integers(0, 3)).map(list), max_size=3)
HEADS = INDICES | PAIRS | st.sampled_from(["two", "", [[0, 1], [0, 1.0]], [[0, 1], 2], [[]], [[0, True]]])
REDUCTION = st.sampled_from(
    ["none", "heads", "layers_heads", "all", 3, 2, 1, 3.0, 2.0, 1.0, 0, True, "mean", None, 1.5]
)
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=3)
NAMES = TEXTS | st.sampled_from(["a", "b", " a ", " ", "", "x" * 80, "x" * 81, "\u00a0", "\u200b", "\t", 3, None])
METHODS = st.sampled_from(["attention", "contrast", "contributions", "relative", "Attention", "", None, 3, []])
PARAMETERS = st.sampled_from(
    [
        {},
        {},
        {"rival": "red"},
        {"rival": 1},
        {"sigma": 1},
        [],
        None,
        "x",
        3,
        {"form": "ratio"},
        {"form": "x"},
        {"epsilon": 0},
        {"epsilon": 1},
        {"prompt": 3},
    ]
)
VIEW = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES, "layers": INDICES, "heads": HEADS, "reduction": REDUCTION, "head": st.just(1),
        "method": METHODS, "parameters": PARAMETERS,
    },
)  # fmt: skip
GOOD_VIEW = st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"layers": INDICES, "heads": HEADS})
VIEWS = (
    st.lists(VIEW | GOOD_VIEW, max_size=3)
    | st.sampled_from([[{"name": str(i)} for i in range(count)] for count in (32, 33)])
    | st.sampled_from([None, {}, "all", [None], [[]]])
)
CHECK = st.sampled_from(
    ["image", "patches", {"name": "image"}, {"name": "image", "top": 1}, {"name": "pixels"}, {}]
) | st.fixed_dictionaries(
    {"name": st.just("patches")},
    optional={
        "steps": INDICES, "view": NAMES, "top": WHOLE, "sets": WHOLE, "seed": WHOLE, "tops": WHOLE,
        "patches": st.dictionaries(st.sampled_from(["0", "5", "05", "-1", "x", "999999999", "1e1"]), LISTS, max_size=2)
        | st.sampled_from([None, [], "all"]),
    },
)  # fmt: skip
ODD = st.sampled_from([None, True, False, 0, 1, 1.5, "", "all", [], {}, [[]]])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("max_new_tokens", "top_k", "seed", "num_beams", "num_return_sequences", "deadline_ms"), WHOLE),
    **dict.fromkeys(("temperature", "top_p", "length_penalty"), REAL),
    "template": st.sampled_from(["chat", "raw", "Chat"]),
    "rows": st.sampled_from(["answer", "prompt", "both", "none"]),
    "precision": st.sampled_from(["uint8", "float16", "float32", "blocks", "int8"]),
    "format": st.sampled_from(["npz", "json", "zip"]),
    "stream": st.sampled_from([True, False, 1, 0, "true"]),
    "steps": INDICES,
    "layers": INDICES,
    "heads": HEADS,
    "reduction": REDUCTION,
    "method": METHODS,
    "parameters": PARAMETERS,
    "views": VIEWS,
    "check": st.lists(CHECK, max_size=3) | st.sampled_from([["image", "image"], ["picture"], [[]], "image", True]),
}
SOUND: dict[str, list[Any]] = {
    **{name: [1, 2.0, 3] for name in ("max_new_tokens", "top_k", "deadline_ms", "num_beams")},
    "temperature": [0, 0.5, 100], "top_p": [0.5, 1], "seed": [0, 7.0], "num_return_sequences": [1, 1.0],
    "length_penalty": [-10, 0.5], "template": ["chat", "raw"], "rows": ["answer", "both"], "stream": [True, False],
    "precision": ["uint8", "float32"], "format": ["npz", "json"], "steps": ["all", [0, 2.0]], "layers": ["all", [1, 0]],
    "heads": ["all", "two", [3], [[0, 1], [0, 2.0]]], "reduction": ["none", "heads", 2, 1.0],
    "method": ["attention", "contributions"], "parameters": [{}],
    "check": [["image"], ["patches", {"name": "image"}], [{"name": "patches", "top": 4.0, "patches": {"5": [1, 2]}}]],
    "views": [[{"name": "a", "heads": "two"}], [{"name": "a"}, {"name": "b", "layers": [1.0], "reduction": 3}]],
}  # fmt: skip
OPTIONS = (
    st.lists(st.sampled_from(sorted(SOUND)), min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: st.sampled_from(SOUND[name]) for name in names})
    )
    | st.fixed_dictionaries({}, optional={name: values | ODD for name, values in VALUES.items()})
    | st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
    )
    | st.dictionaries(st.sampled_from(["view", "MAX_NEW_TOKENS", ""]), ODD, min_size=1, max_size=1)
)
PROMPTS = TEXTS | st.sampled_from(["What?", "", " ", "\u200b", "\0", "a\0", None, 3, []])
FILES = st.sampled_from(
    ["QUJD", "QUI=", "QQ==", " Q U\nJD\t", "QQ=\n=", "", " ", "=", "QQ", "QQ=", "QUJ", "QUJD=", "QQ==QQ==", "Q-_=",
     "QUJD\u00a0", "QUI==", "data:image/png;base64,QUJD", "é", None, 3, [], {}, "data:;base64, QQ==",
     "DATA:;base64,QQ==", "data:image/svg+xml;a=b;c=d;base64,QUJD\n", "data:image/png,QUJD", "data:;base64,",
     "data:a/;base64,QUJD", " data:x/y;base64,QUI", "https://example.org/a.png", "QUJDdata:;base64,QUJD",
     "data:;base64,data:;base64,QUJD"]
)  # fmt: skip
BODIES = st.one_of(
    st.fixed_dictionaries({"image": st.just(PICTURE), "prompt": st.just("What?"), "options": OPTIONS | ODD}),
    st.fixed_dictionaries({"record": st.just(RECORD), "image": st.just(PICTURE), "options": OPTIONS | ODD}),
    st.fixed_dictionaries({}, optional={"image": FILES, "prompt": PROMPTS, "options": st.just({}), "ready": ODD}),
    st.fixed_dictionaries({"image": st.just(PICTURE), "prompt": PROMPTS}),
    st.fixed_dictionaries({"image": FILES, "prompt": st.just("What?")}),
    st.fixed_dictionaries({"images": FILES | st.lists(FILES, max_size=2), "prompt": st.just("What?")}),
    st.fixed_dictionaries({"image": st.lists(FILES, max_size=2), "prompt": st.just("What?")}),
    st.fixed_dictionaries(
        {},
        optional={name: st.just([PICTURE]) for name in ("image", "images", "image_2")} | {"prompt": st.just("What?")},
    ),
    st.fixed_dictionaries(
        {"record": st.just(RECORD)},
        optional={
            "image": st.just(PICTURE),
            "images": st.just([PICTURE]),
            "prompt": PROMPTS,
            "ready": ODD,
            "Image": st.just(PICTURE),
        },
    ),
    st.sampled_from([None, 3, "", [], {}, [{}]]),
)


def verdict(body: object) -> GenerateRequest | Probe | RequestError:
    """The parser's."""
    try:
        return read_request({"body": json.dumps(body).encode()}, HEAD)
    except RequestError as error:
        return error


def agree(body: object) -> None:
    """Holds both judges' words on one body against each other."""
    fits, found = JUDGE.is_valid(body), verdict(body)
    if not isinstance(found, RequestError):
        assert fits, (body, [error.message[:200] for error in JUDGE.iter_errors(body)])
        assert isinstance(found, Probe) == (isinstance(body, dict) and set(body) == {"ready"})
        return
    assert found.status in (400, 413, 415, 422)
    # Whether a record carries a picture is no matter of form.
    without_picture = isinstance(body, dict) and "record" in body and not {"image", "images"} & set(body)
    assert not fits or without_picture or any(words in found.message for words in UNSAYABLE), found


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )


def asked(**options: Any) -> dict[str, Any]:
    return {"image": PICTURE, "prompt": "What?", "options": options}


@examples(200)
@given(BODIES)
@example({"image": PICTURE, "prompt": "What?", "options": None})
@example({"image": PICTURE, "prompt": "What?", "options": "{}"})
@example({"image": PICTURE, "prompt": "What?", "ready": True})
@example(asked(views=[{"name": "a", "layers": [23607.0]}]))
@example(asked(views=[{"name": "a"}], layers=[0]))
@example(asked(temperature=0, top_k=3))
@example(asked(seed=3))
@example(asked(seed=3, top_p=0.5, num_return_sequences=4))
@example(asked(num_beams=2, temperature=0.5))
@example(asked(num_beams=2, temperature=0, length_penalty=-0.0, num_return_sequences=2.0))
@example(asked(heads="two", reduction=3))
@example(asked(heads="all", layers="all", reduction=3))
@example({"image": PICTURE, "prompt": "x" * (1 << 18)})
@example({"image": PICTURE, "prompt": "x" * ((1 << 18) + 1)})
@example(asked(steps=list(range(4096))))
@example(asked(steps=list(range(4097))))
def test_schema_and_parser_agree(body: object) -> None:
    agree(body)


@pytest.mark.long
@examples(5_000)
@given(BODIES)
@example(asked(heads=[[0, i] for i in range(4096)]))
@example(asked(heads=[[0, i] for i in range(4097)]))
def test_schema_and_parser_agree_on_many(body: object) -> None:
    agree(body)


@pytest.mark.parametrize("name", KNOWN)
def test_both_take_sound_values_and_refuse_none(name: str) -> None:
    """A test that only ever drew what both refuse would say nothing."""
    beside = {"seed": {"top_p": 0.5}, "length_penalty": {"num_beams": 2}}.get(name, {})
    for value in SOUND[name]:
        body = asked(**{name: value}, **beside)
        assert (JUDGE.is_valid(body), isinstance(verdict(body), GenerateRequest)) == (True, True), value
    body = asked(**{name: None}, **beside)
    assert (JUDGE.is_valid(body), isinstance(verdict(body), RequestError)) == (False, True)


def test_the_schema_knows_every_method_of_this_house() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    own = {name: one for name, one in DOOR.known().items() if one.implementation.startswith("llava_doors.methods.")}
    assert sorted(schemas["Method"]["enum"]) == sorted(own)
    for name, one in own.items():
        for parameter in one.parameters:
            assert JUDGE.is_valid(asked(method=name, parameters={parameter.name: parameter.default}))
        assert not JUDGE.is_valid(asked(method=name, parameters={"no_such": 1}))


def test_the_schema_knows_every_check_of_this_house() -> None:
    own = {name: one for name, one in CHECKS.known().items() if one.implementation.startswith("llava_doors.checks.")}
    assert sorted(own) == ["image", "patches", "sets"]
    for name, one in own.items():
        for parameter in one.parameters:
            assert JUDGE.is_valid(asked(check=[{"name": name, parameter.name: parameter.default}]))
        assert not JUDGE.is_valid(asked(check=[{"name": name, "no_such": 1}]))


def test_the_schema_knows_every_encoding_of_maps() -> None:
    view = DOCUMENT["components"]["schemas"]["Record"]["properties"]["views"]["items"]["properties"]
    assert sorted(view["encoding"]["enum"]) == sorted(ENCODINGS)


def test_replays_take_the_options_that_do_not_decide_the_answer() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    whole, replay = schemas["Options"]["properties"], schemas["ReplayOptions"]["properties"]
    assert replay == {name: one for name, one in whole.items() if name not in (*DECODING, "stream")}
