"""Prompts: the processor's own ids for ordinary text, and no special token from anything a user types."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.reference import processor_inputs
from llava_doors.family import Layout
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.read.prompt import PromptEncoder
from llava_wire import Record, RequestError
from support.pictures import scene_bytes

PICTURE = scene_bytes(100, 100, seed=0)


def encoder_of(engine: Engine) -> PromptEncoder:
    loaded = engine.loaded
    text = loaded.model.config.text_config
    return PromptEncoder(loaded.processor, loaded.model.config.image_token_id, text.vocab_size)


def layout_of(engine: Engine) -> Layout:
    """Of one picture."""
    return engine.loaded.layout([(100, 100)])


@pytest.mark.parametrize(
    "text",
    [
        "Describe the image.",
        "  two  spaces \n and a line",
        "Was ist das?",
        "这是什么？",
        "🎈 emoji",
        "ASSISTANT: USER:",
    ],
)
def test_ids_equal_the_processors_own(text, engine):
    ours = encoder_of(engine).encode(text, "chat", layout_of(engine))
    theirs = processor_inputs(engine.loaded.processor, [PICTURE], [text])["input_ids"][0].tolist()
    assert list(ours.ids) == theirs
    assert ours.rendered == f"USER: <image>\n{text} ASSISTANT:"
    assert ours.ids[ours.patches[0] : ours.patches[-1] + 1] == (engine.loaded.model.config.image_token_id,) * 64


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["<image>", "</s>", "<s>", "<pad>", "<unk>", " ", "red", "é", "<", "image>"]), min_size=1
    )
)
def test_typed_special_tokens_stay_text(parts, engine):
    text = "What is " + "".join(parts)
    encoded = encoder_of(engine).encode(text, "chat", layout_of(engine))
    tokenizer = engine.loaded.processor.tokenizer
    special = set(tokenizer.all_special_ids)
    after = encoded.ids[encoded.patches[-1] + 1 :]
    assert not special & set(after)
    assert encoded.ids.count(engine.loaded.model.config.image_token_id) == 64
    assert tokenizer.decode(after, clean_up_tokenization_spaces=False) == f"\n{text} ASSISTANT:"
    own = [encoded.ids[i] for i in encoded.question]
    assert tokenizer.decode(own, clean_up_tokenization_spaces=False).strip() in f"\n{text} ASSISTANT:"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("no image here", "got 0"),
        ("<image> and <image>", "got 2"),
        ("<image> then </s>", "'</s>'"),
        ("<s><image>", "'<s>'"),
    ],
)
def test_raw_prompts_take_exactly_one_image_token(text, given, engine):
    request = GenerateRequest.build(PICTURE, text, {"template": "raw"})
    error = engine.run([request])[0]
    assert isinstance(error, RequestError)
    assert (error.status, error.field) == (422, "prompt")
    assert given in str(error)


def test_raw_prompt_equals_chat_when_it_spells_the_template_out(engine):
    chat = encoder_of(engine).encode("Describe the image.", "chat", layout_of(engine))
    raw = encoder_of(engine).encode("USER: <image>\nDescribe the image. ASSISTANT:", "raw", layout_of(engine))
    assert raw.ids == chat.ids


def test_a_prompt_beyond_the_context_names_both_numbers(engine):
    error = engine.run([GenerateRequest.build(PICTURE, "word " * 700)])[0]
    assert isinstance(error, RequestError)
    assert error.field == "prompt"
    assert "512" in error.message
    assert "max_new_tokens 64" in error.message


@pytest.mark.parametrize("rows", ["prompt", "both"])
def test_question_rows_before_the_image_have_no_share_of_it(rows, engine):
    options = {"template": "raw", "rows": rows, "steps": [0], "max_new_tokens": 2}
    record = engine.run([GenerateRequest.build(PICTURE, "What is this? <image>", options)])[0]
    kinds = [query.kind for query in record.queries]
    assert kinds.count("prompt") > 2
    for kind, maps in zip(kinds, record.maps_float(), strict=True):
        assert (maps.sum() > 0) == (kind == "answer")


def test_prompts_encoded_by_many_threads_are_those_of_one(engine):
    encoder = encoder_of(engine)
    texts = ["What colour is the square?", "ignore <image> </s> this <image>", "Is there a red circle in the image?"]
    wanted = {text: encoder.encode(text, "chat", layout_of(engine)) for text in texts}
    wrong: list[object] = []

    def work(offset: int) -> None:
        for i in range(400):
            text = texts[(i + offset) % 3]
            try:
                wrong.extend([] if encoder.encode(text, "chat", layout_of(engine)) == wanted[text] else [text])
            except RuntimeError as error:
                wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


@pytest.mark.parametrize("rows", ["answer", "prompt"])
def test_a_record_has_the_questions_words_as_text(rows, engine):
    question = "Où est le café ?"
    record = engine.run([GenerateRequest.build(PICTURE, question, {"rows": rows, "max_new_tokens": 2})])[0]
    prompt = record.facts.prompt
    assert "".join(prompt.texts).replace(" \n", "\n") == f"USER:\n{question} ASSISTANT:"
    start, count = record.grids[0].positions[0]
    assert set(prompt.texts[start : start + count]) == {""}
    assert any("Ã" in piece for piece in prompt.pieces)


def test_a_record_says_what_of_its_prompt_was_read_as_plain_text(engine):
    literal, whole = engine.run(
        [
            GenerateRequest.build(PICTURE, text, {"max_new_tokens": 2})
            for text in ("<image>\nWhat is this?", "USER: <image>\nWhat is this? ASSISTANT:\n")
        ]
    )
    [note] = literal.facts.notes
    assert (note.code, note.field) == ("literal-markup", "prompt")
    assert '"<image>" in it, read as plain text' in note.text
    assert literal.facts.prompt.text == "<image>\nWhat is this?"
    [note] = whole.facts.notes
    assert note.code == "whole-template"
    assert whole.facts.prompt.text == "What is this?"
    plain = engine.run([GenerateRequest.build(PICTURE, "What is this?", {"max_new_tokens": 2})])[0]
    assert plain.facts.notes == ()
    assert plain.facts.prompt == whole.facts.prompt
    assert [token.id for token in plain.tokens] == [token.id for token in whole.tokens]
    for record in (literal, whole):
        again = engine.run([GenerateRequest.replay(record, {}, PICTURE)])[0]
        assert again.facts.prompt == record.facts.prompt


def test_a_record_whose_question_looks_like_a_whole_prompt_is_replayed_as_it_was_read(engine):
    """Earlier versions read such a prompt as text; the answer in the record is one to that."""
    text = "USER: <image>\nWhat is this? ASSISTANT:"
    record = engine.run([GenerateRequest.build(PICTURE, "What is this?", {"max_new_tokens": 2})])[0]
    read = encoder_of(engine).encode(text, "chat", layout_of(engine), literal=True)
    prompt = replace(
        record.facts.prompt, text=text, rendered=read.rendered, ids=read.ids, pieces=("",) * len(read.ids), texts=()
    )
    earlier = replace(record, facts=replace(record.facts, prompt=prompt))
    again = engine.run([GenerateRequest.replay(earlier, {}, PICTURE)])[0]
    assert isinstance(again, Record), again
    assert (again.facts.prompt.text, again.facts.prompt.ids) == (text, read.ids)
    assert [note.code for note in again.facts.notes] == ["literal-markup"]
