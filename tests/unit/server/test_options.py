"""Options: what is accepted, and the field, the value and the allowed values in every refusal."""

from __future__ import annotations

import pytest

from llava_doors.family import ModelFacts
from llava_server.ask.options import KNOWN, Options, parse_options
from llava_server.ask.plan import cells_of, make_plan
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import Limits, ModelSettings, SettingsError
from llava_wire import RequestError

FACTS = ModelFacts(layers=4, heads=8, kv_heads=8, head_dim=16, context=512, cache_bytes_per_value=4)
SETTINGS = ModelSettings.from_dict(
    {
        "name": "toy",
        "head_sets": {"next-object": [[2, 4]], "two": [[0, 1], [3, 7]]},
        "default_views": [{"name": "mean", "layers": "all", "heads": "all"}, {"name": "next", "heads": "next-object"}],
        "limits": {"max_new_tokens": 100},
    }
)

REFUSED = [
    ({"max_new_tokns": 3}, "options.max_new_tokns", "did you mean 'max_new_tokens'?"),
    ({"max_new_tokens": 0}, "options.max_new_tokens", "got 0, expected a whole number of 1 or more"),
    ({"max_new_tokens": True}, "options.max_new_tokens", "got True"),
    ({"max_new_tokens": 2.5}, "options.max_new_tokens", "got 2.5"),
    ({"max_new_tokens": "5"}, "options.max_new_tokens", "got '5'"),
    ({"template": "chatt"}, "options.template", "did you mean 'chat'?"),
    ({"rows": 3}, "options.rows", "'answer', 'prompt', 'both'"),
    ({"steps": []}, "options.steps", "got []"),
    ({"steps": [1, 1]}, "options.steps[1]", "each index once"),
    ({"steps": [-1]}, "options.steps[0]", "got -1"),
    ({"layers": "some"}, "options.layers", "got 'some'"),
    ({"layers": [0, True]}, "options.layers[1]", "got True"),
    ({"heads": [[0, 1, 2]]}, "options.heads[0]", "a pair [layer, head]"),
    ({"heads": [[0, 1], [0, 1]]}, "options.heads[1]", "each pair once"),
    ({"heads": [[0, 1]], "layers": [0]}, "options.layers", "leave it out"),
    ({"heads": "two", "layers": "all"}, "options.layers", "leave it out"),
    ({"heads": [[0, 1]], "reduction": "heads"}, "options.reduction", "with a head set or pairs"),
    ({"reduction": 4}, "options.reduction", "got 4"),
    ({"method": "atention"}, "options.method", "did you mean 'attention'?"),
    ({"method": 3}, "options.method", "one of ['attention'"),
    ({"parameters": [1]}, "options.parameters", "an object of the method's parameters"),
    ({"parameters": {"sigma": 1}}, "options.parameters.sigma", "that 'attention' does not have"),
    ({"views": [{"name": "a", "method": "x"}]}, "options.views[0].method", "got 'x', expected one of"),
    ({"views": [{"name": "a"}], "method": "attention"}, "options.method", "put it inside a view"),
    ({"reduction": "mean"}, "options.reduction", "layers_heads"),
    ({"views": []}, "options.views", "a list of 1 to 32"),
    ({"views": [{"layers": "all"}]}, "options.views[0].name", "got None"),
    ({"views": [{"name": "a"}, {"name": "a"}]}, "options.views[1].name", "each name once"),
    ({"views": [{"name": "a", "head": [1]}]}, "options.views[0].head", "did you mean 'heads'?"),
    ({"views": [{"name": "a"}], "layers": [1]}, "options.layers", "put it inside a view"),
    ({"precision": "int8"}, "options.precision", "did you mean 'uint8'?"),
    ({"temperature": float("nan")}, "options.temperature", "got nan"),
    ({"temperature": -1}, "options.temperature", "from 0 to 100"),
    ({"temperature": 1e-9}, "options.temperature", "0 (greedy) or 0.001"),
    ({"top_p": 0}, "options.top_p", "above 0"),
    ({"top_k": 0}, "options.top_k", "1 or more"),
    ({"seed": 5}, "options.seed", "together with a temperature"),
    ({"temperature": 0, "top_k": 5}, "options.top_k", "temperature above 0"),
    ({"seed": 2**64, "temperature": 1}, "options.seed", "got 18446744073709551616"),
    ({"deadline_ms": 0}, "options.deadline_ms", "got 0"),
    ([], "options", "a JSON object"),
    ("{}", "options", "a JSON object"),
]


def test_steps_of_an_answer_that_is_given_are_held_against_it():
    with pytest.raises(RequestError) as caught:
        make_plan(parse_options({"steps": [9], "max_new_tokens": 9}), FACTS, SETTINGS, given=True)
    assert str(caught.value) == (
        "options.steps: got 9, expected 0 to 8, the steps of the answer that is given; leave it out"
    )


@pytest.mark.parametrize(("given", "field", "says"), REFUSED)
def test_refusals_name_field_value_and_what_is_allowed(given, field, says):
    with pytest.raises(RequestError) as caught:
        parse_options(given)
    assert (caught.value.code, caught.value.status, caught.value.field) == ("invalid", 422, field)
    assert says in caught.value.message
    assert ", expected " in caught.value.message or ", expected " in caught.value.message


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"layers": [0, 4]}, "options.layers[1]", "got 4, expected 0 to 3: toy has 4 layers"),
        ({"heads": [8]}, "options.heads[0]", "got 8, expected 0 to 7"),
        ({"heads": [[4, 0]]}, "options.heads[0][0]", "got 4, expected 0 to 3"),
        ({"heads": "next-objct"}, "options.heads", "did you mean 'next-object'?"),
        ({"views": [{"name": "a"}, {"name": "b", "layers": [7]}]}, "options.views[1].layers[0]", "got 7"),
        ({"max_new_tokens": 101}, "options.max_new_tokens", "got 101, expected 1 to 100"),
        ({"steps": [64]}, "options.steps", "got 64"),
        ({"deadline_ms": 10**9}, "options.deadline_ms", "got 1000000000"),
        ({"rows": "prompt", "reduction": "all"}, "options.reduction", "mean over answer steps"),
        (
            {"precision": "blocks", "method": "contributions"},
            "options.precision",
            (
                "got 'blocks' for 'contribution to the logit', expected shares of 0 or more; ask for 'uint8' "
                "(view 'selection', method"
            ),
        ),
    ],
)
def test_what_the_model_lacks_is_refused_by_the_plan(given, field, says):
    with pytest.raises(RequestError) as caught:
        make_plan(parse_options(given), FACTS, SETTINGS)
    assert (caught.value.status, caught.value.field) == (422, field)
    assert says in caught.value.message


def test_no_options_mean_the_models_default_views():
    plan = make_plan(parse_options(None), FACTS, SETTINGS)
    assert [view.name for view in plan.views] == ["mean", "next"]
    assert plan.views[0].layers == (0, 1, 2, 3)
    assert plan.views[1].pairs == ((2, 4),)
    assert plan.views[1].head_set == "next-object"
    assert cells_of(plan.views) == dict.fromkeys(range(4), tuple(range(8)))


def test_a_reduction_alone_applies_to_the_first_default_view():
    plan = make_plan(parse_options({"reduction": "none"}), FACTS, SETTINGS)
    assert [(view.name, view.axes) for view in plan.views] == [("selection", ("query", "layer", "head", "patch"))]


@pytest.mark.parametrize(("number", "name"), [(3, "heads"), (2, "layers_heads"), (1, "all"), ("none", "none")])
def test_the_older_toolkits_reductions_are_accepted(number, name):
    assert parse_options({"reduction": number}).views[0].reduction == name


def test_order_of_layers_heads_and_pairs_is_kept_and_cells_are_their_union():
    given = {"views": [{"name": "a", "layers": [3, 0], "heads": [7, 1]}, {"name": "b", "heads": [[2, 5], [0, 3]]}]}
    plan = make_plan(parse_options(given), FACTS, SETTINGS)
    assert plan.views[0].layers == (3, 0)
    assert plan.views[1].pairs == ((2, 5), (0, 3))
    assert cells_of(plan.views) == {0: (1, 3, 7), 2: (5,), 3: (1, 7)}


def test_sampling_is_on_only_when_asked_for():
    assert not parse_options({}).sampling
    assert not parse_options({"temperature": 0}).sampling
    assert parse_options({"temperature": 0.7, "seed": 1}).sampling
    assert parse_options({"top_p": 0.9}).sampling


def test_every_option_of_the_contract_is_known():
    assert set(KNOWN) == {
        "max_new_tokens", "template", "rows", "steps", "layers", "heads", "reduction", "method", "parameters",
        "views", "precision", "format",
        "temperature", "top_p", "top_k", "seed", "num_beams", "length_penalty", "num_return_sequences",
        "deadline_ms", "stream", "check",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "prompt", "status", "field"),
    [
        (None, "Hi", 400, "image"),
        (b"", "Hi", 400, "image"),
        ("text", "Hi", 400, "image"),
        (b"x", None, 400, "prompt"),
        (b"x", "  \n", 422, "prompt"),
        (b"x", "bad \ud800", 422, "prompt"),
    ],
)
def test_requests_without_picture_or_question_are_refused(image, prompt, status, field):
    with pytest.raises(RequestError) as caught:
        GenerateRequest.build(image, prompt)
    assert (caught.value.status, caught.value.field) == (status, field)


def test_a_request_is_frozen_and_holds_no_tensors():
    request = GenerateRequest.build(b"x", "Hi", {"max_new_tokens": 5})
    assert request.options == Options(max_new_tokens=5)
    with pytest.raises(AttributeError):
        request.prompt = "other"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nme": "x"}, "did you mean 'name'?"),
        ({"revision": 1}, "quote it"),
        ({"dtype": "int4"}, "handler.dtype: got 'int4'"),
        ({"limits": {"max_new_token": 5}}, "did you mean 'max_new_tokens'?"),
        ({"limits": {"max_new_tokens": 0}}, "got 0"),
        (
            {"limits": {"max_prompt_chars": 300_000}},
            "handler.limits.max_prompt_chars: got 300000, expected 1 to 262144",
        ),
        ({"head_sets": {"a": [[1]]}}, "handler.head_sets.a"),
        ({"default_views": []}, "handler.default_views"),
        ({"default_views": [{"name": "a", "reduction": "sum"}]}, "handler.default_views[0].reduction"),
        ({"default_views": [{"name": "a", "method": "text_attention"}]}, "got ['a'], all of text, expected one of"),
        ({"check": ["pixels"]}, "handler.check[0]"),
        ({"check": [{"name": "patches", "topp": 1}]}, "did you mean 'top'?"),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(section, says):
    with pytest.raises(SettingsError) as caught:
        ModelSettings.from_dict(section)
    assert says in str(caught.value)


def test_settings_name_checks_with_their_parameters():
    assert [one.name for one in ModelSettings.from_dict({}).check] == ["image"]
    [image, patches] = ModelSettings.from_dict({"check": ["image", {"name": "patches", "top": 2}]}).check
    assert (image.name, patches.parameters["top"], patches.parameters["sets"]) == ("image", 2, 16)
    plan = make_plan(parse_options(None), FACTS, ModelSettings.from_dict({"check": [{"name": "patches"}]}))
    assert [one.name for one in plan.checks] == ["patches"]
    assert make_plan(parse_options({"check": []}), FACTS, SETTINGS).checks == ()


def test_limits_default_to_the_documented_numbers():
    assert Limits().max_new_tokens == 256
    assert ModelSettings.from_dict({}).default_views[0].name == "mean"
