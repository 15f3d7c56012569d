"""Contributions: the values of an implementation of its own, an exact sum, and what a rival changes."""

from __future__ import annotations

import io

import numpy as np
import pytest

from llava_server.ask.request import GenerateRequest
from llava_viewer.pages.report import render_report
from llava_wire import Record, RequestError, decode, encode
from shapes.sightings import held_out

ASKED = {"method": "contributions", "precision": "float32"}
REFERENCE = {
    "Describe the image.": {
        5: (" yellow", 25, 5.886442, (14.64573, 0.50332, 1.48321, 1.0103)),
        6: (" triangle", 25, 4.92519, (15.27095, -0.33533, 0.40079, 1.75187)),
        8: (" blue", 13, 2.39799, (13.84376, 0.07651, 1.49635, 2.25569)),
        9: (" circle", 13, 2.964878, (15.79473, -0.48883, 1.67781, 2.64371)),
    },
    "What shape is the yellow object?": {
        1: (" yellow", 25, 0.64225, (6.15525, 8.83106, 0.0, 1.79863)),
        5: (" triangle", 25, 3.610427, (13.79488, 0.54727, -0.46012, 2.08835)),
    },
}
"""Question -> step -> word, brightest patch, its value, and the parts image, prompt, answer, itself; computed by a
separate program that writes the model out by hand, on the first of `held_out(71001, 240)`."""


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Question -> the picture of the first scene."""
    found: dict[str, bytes] = {}
    for item in held_out(71001, 240):
        if item.question.text in REFERENCE and item.question.text not in found:
            buffer = io.BytesIO()
            item.scene.image.save(buffer, "PNG")
            found[item.question.text] = buffer.getvalue()
    return found


def ask(engine, picture: bytes, question: str, **more) -> Record:
    [record] = engine.run([GenerateRequest.build(picture, question, {**ASKED, **more})])
    assert isinstance(record, Record), record
    return record


@pytest.mark.parametrize("question", REFERENCE)
def test_the_values_of_a_separate_implementation(engine, pictures, question):
    record = decode(encode(ask(engine, pictures[question], question)))
    [view] = record.views.values()
    assert view.facts.parts == ("image", "prompt", "answer", "itself")
    assert (view.quantity.unit, view.quantity.signed, view.quantity.additive) == ("logit", True, True)
    for step, (word, brightest, value, parts) in REFERENCE[question].items():
        heat = view.maps_float()[step].ravel()
        assert record.tokens[step].text == word
        assert int(heat.argmax()) == brightest
        assert heat[brightest] == pytest.approx(value, abs=1e-4)
        assert view.parts[step] == pytest.approx(parts, abs=1e-4)
        assert heat.sum() == pytest.approx(parts[0], abs=1e-4)


def test_a_rival_is_what_the_logit_is_held_against(engine, pictures):
    question = "Describe the image."
    step = 5  # " yellow"
    record = ask(engine, pictures[question], question, parameters={"rival": "red"})
    [view] = record.views.values()
    yellow = record.tokens[step]
    red = [candidate for candidate in yellow.top if candidate.text.strip() == "red"]
    if red:  # what the model itself says of both, in log probabilities
        assert view.parts[step].sum() == pytest.approx(yellow.logprob - red[0].logprob, abs=1e-3)
    runner = ask(engine, pictures[question], question, parameters={"rival": "runner-up"})
    [second] = runner.views.values()
    for row, token in enumerate(runner.tokens):
        assert second.parts[row].sum() == pytest.approx(token.logprob - token.top[1].logprob, abs=1e-3)
    own = ask(engine, pictures[question], question, parameters={"rival": "yellow"})
    [zero] = own.views.values()
    np.testing.assert_allclose(zero.maps_float()[step], 0, atol=1e-6)
    assert any("are the rival 'yellow'" in note.text for note in own.facts.notes)


def test_a_rival_that_is_no_word_is_refused(engine, pictures):
    """Before anything runs, and named as the request names it."""
    nothing = {"method": "contributions", "parameters": {"rival": "   "}}
    views = {"views": [{"name": "attention"}, {"name": "against", **nothing}]}
    for asked, field in ((nothing, "options.parameters.rival"), (views, "options.views[1].parameters.rival")):
        request = GenerateRequest.build(pictures["Describe the image."], "Describe the image.", asked)
        with pytest.raises(RequestError) as refused:
            engine.estimate(request)
        assert refused.value.field == field
        assert refused.value.message == "got '   ', expected a word that the model's tokenizer knows; name another"


def test_the_record_claims_no_mean_over_heads(engine, pictures):
    question = "Describe the image."
    for reduction in ("layers_heads", "all"):
        record = decode(encode(ask(engine, pictures[question], question, reduction=reduction)))
        [view] = record.views.values()
        assert (view.facts.layers, view.facts.heads, view.facts.pairs) == ((), (), ())
    html = render_report(ask(engine, pictures[question], question))
    assert "all layers and heads together; nothing averaged." in html
    assert "method contributions." in html
    assert "heads;" not in html.partition("all layers and heads together")[2][:300]


def test_a_rival_of_several_tokens_names_the_one_that_is_meant(engine, pictures):
    record = ask(engine, pictures["Describe the image."], "Describe the image.", parameters={"rival": "xyzzy"})
    [note] = [note.text for note in record.facts.notes if note.code == "method"]
    assert "The rival 'xyzzy' is several tokens; rows are held against the first, '" in note


def test_a_rival_that_stands_for_no_word_says_so(engine, pictures):
    end = "</s>"
    record = ask(engine, pictures["Describe the image."], "Describe the image.", parameters={"rival": end})
    notes = [note.text for note in record.facts.notes if note.code == "method"]
    assert any(note.endswith(f"The rival {end!r} is a special token, which stands for no word.") for note in notes)
