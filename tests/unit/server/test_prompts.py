"""Prompts of every kind of tokenizer and template: the processor's own ids, no special token from a user, and notes."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from llava_doors.family import Layout
from llava_server.ask.settings import SettingsError
from llava_server.read.prompt import EncodedPrompt, PromptEncoder
from llava_wire import RequestError
from support.layouts import one_grid
from support.processors import IMAGE_TOKENS, TEMPLATES, processor_of

PAIRS = [
    (kind, template)
    for kind, template in itertools.product(
        ("shapes", "stand-in", "llama", "llama-class", "bytes", "unigram"), TEMPLATES
    )
    # The others have no <|im_start|>.
    if template != "chatml" or kind in ("bytes", "unigram")
]
PICTURE = Image.new("RGB", (28, 28), "red")
CONTROLS = ("<image>", "</s>", "<s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<think>")


@functools.cache
def encoder_of(kind: str, template: str) -> PromptEncoder:
    processor = processor_of(kind, template)
    return PromptEncoder(processor, processor.tokenizer.convert_tokens_to_ids("<image>"), 40_000)


def encode(kind: str, template: str, text: str, how: str = "chat", **more: Any) -> EncodedPrompt:
    return encoder_of(kind, template).encode(text, how, picture_of(processor_of(kind, template)), **more)


def picture_of(processor: Any) -> Layout:
    """Of one picture."""
    return one_grid(processor.tokenizer.convert_tokens_to_ids("<image>"), IMAGE_TOKENS)


def processors_own(kind: str, template: str, text: str) -> list[int]:
    content = [{"type": "image", "image": PICTURE}, {"type": "text", "text": text}]
    inputs = processor_of(kind, template).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    [ids] = inputs["input_ids"]
    return list(ids)


@pytest.mark.parametrize(("kind", "template"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab Re.?\n\té🎈中:<>[]/|İﬁ"), min_size=1, max_size=30)
       | st.builds(lambda a, b: a + "What is red?" + b, *[st.text(alphabet=" \n\t", max_size=3)] * 2))  # fmt: skip
def test_ids_of_ordinary_text_are_the_processors_own(kind: str, template: str, text: str) -> None:
    assume(text.strip())
    assert list(encode(kind, template, text).ids) == processors_own(kind, template, text)


@pytest.mark.parametrize("kind", ["llama", "llama-class"])
def test_the_templated_prompt_has_the_ids_that_the_real_model_is_known_by(kind: str) -> None:
    encoded = encode(kind, "published", "What colour is the cross?")
    assert encoded.ids[:6] == (1, 3148, 1001, 29901, 29871, 32000)
    assert (encoded.patches[0], len(encoded.patches)) == (5, IMAGE_TOKENS)
    assert encoded.ids[-5:] == (319, 1799, 9047, 13566, 29901)  # " ASSISTANT:"
    tokenizer = processor_of(kind, "published").tokenizer
    assert tokenizer.decode([encoded.ids[i] for i in encoded.question]) == "What colour is the cross?"


@pytest.mark.parametrize(("kind", "template"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.sampled_from([*CONTROLS, " ", "red", "é", "<", "image>", "\n"]), min_size=1, max_size=6))
def test_nothing_typed_becomes_a_special_token(kind: str, template: str, parts: list[str]) -> None:
    text = "What " + "".join(parts)
    tokenizer = processor_of(kind, template).tokenizer
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} - {tokenizer.unk_token_id}
    encoded, plain = encode(kind, template, text, literal=True), encode(kind, template, "What")
    assert [i for i in encoded.ids if i in special] == [i for i in plain.ids if i in special]
    assert encoded.question
    if kind != "unigram":  # its unknown characters are lost
        kept = tokenizer.decode([encoded.ids[i] for i in encoded.question])
        assert text.strip() in kept


@pytest.mark.parametrize(("kind", "template"), PAIRS)
@settings(max_examples=15, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab Re.?\n\té🎈中:[]"), min_size=1, max_size=20))
def test_text_that_is_tokenised_apart_has_the_ids_and_places_of_one_go(kind: str, template: str, text: str) -> None:
    encoder = encoder_of(kind, template)
    assert encoder._chat is not None
    chat = encoder._chat.render(text, encoder._chat.around())
    bos = template == "inst"
    frame = encoder._plain._framed(chat.before, chat.after, bos)
    assert encoder._plain._apart(frame, chat.text) == encoder._plain.tokenise(chat.text, bos=bos)


def test_a_picture_token_without_the_flag_is_no_text_of_a_users_either() -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    processor = processor_of("bytes", "published")
    content = processor.tokenizer.backend_tokenizer.to_str()
    unflagged = re.sub(r'("content":"<image>".*?"special":)true', r"\1false", content, count=1)
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(unflagged), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert not processor.tokenizer.added_tokens_decoder[image_id].special
    encoded = PromptEncoder(processor, image_id, 40_000).encode("an <image> here", "chat", picture_of(processor))
    assert encoded.ids.count(image_id) == IMAGE_TOKENS


def test_special_tokens_are_refused_where_they_cannot_be_read_as_text() -> None:
    """Here the picture's token takes the white space after it, so text tokenised apart would have other ids."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    processor = processor_of("bytes", "trimmed")
    content = processor.tokenizer.backend_tokenizer.to_str()
    stripping = re.sub(r'("content":"<image>".*?"rstrip":)false', r"\1true", content, count=1)
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(stripping), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    processor.chat_template = "USER: <image>{{ messages[0]['content'][1]['text'] }} ASSISTANT:"
    encoder = PromptEncoder(processor, processor.tokenizer.convert_tokens_to_ids("<image>"), 40_000)
    assert (
        encoder.encode("  a b", "chat", picture_of(processor)).ids
        == encoder.encode("a b", "chat", picture_of(processor)).ids
    )
    with pytest.raises(RequestError, match="got '</s>', expected no special token of this model in a question; leave"):
        encoder.encode("What is </s>?", "chat", picture_of(processor))


@pytest.mark.parametrize(("kind", "template"), [pair for pair in PAIRS if pair[0] != "unigram"])
@pytest.mark.parametrize("edges", [("", ""), ("\n ", "\n"), ("<s>", ""), (" <s>", "  ")])
def test_a_whole_prompt_in_the_models_own_form_is_the_question_in_it(kind: str, template: str, edges: tuple) -> None:
    question = "What colour is the cross?"
    chat = encode(kind, template, question)
    encoded = encode(kind, template, edges[0] + chat.rendered.removeprefix("<s>") + edges[1])
    assert (encoded.text, encoded.ids, encoded.question) == (question, chat.ids, chat.question)
    assert encode(kind, template, chat.rendered, "raw").ids == chat.ids
    [note] = encoded.notes
    assert (note.code, note.field) == ("whole-template", "prompt")
    assert 'template: "raw"' in note.text


def test_a_conversation_in_the_models_own_form_keeps_its_turns() -> None:
    text = "USER: <image>\nWhat is it? ASSISTANT: a cross USER: Which colour? ASSISTANT:"
    encoded = encode("shapes", "published", text)
    assert encoded.text == "What is it? ASSISTANT: a cross USER: Which colour?"
    assert encoded.ids == encode("shapes", "published", text, "raw").ids
    assert [note.code for note in encoded.notes] == ["whole-template"]
    assert "plain text" not in encoded.notes[0].text
    hostile = encode("shapes", "published", text.replace("a cross", "a cross</s>"))
    assert '"</s>" in it is plain text' in hostile.notes[0].text


def test_the_models_form_around_nothing_is_refused() -> None:
    with pytest.raises(RequestError, match="a question inside the model's chat template"):
        encode("shapes", "published", "USER: <image>\n \u200b ASSISTANT:")


def test_a_replays_question_is_read_as_it_stands() -> None:
    text = "USER: <image>\nWhat? ASSISTANT:"
    encoded = encode("shapes", "published", text, literal=True)
    assert encoded.text == text
    assert encoded.rendered == f"USER: <image>\n{text} ASSISTANT:"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<image>\nWhat colour is the cross?", '"<image>"'),
        ("USER: <image>\nWhat colour is the cross?\nASSISTANT:", '"USER:", "<image>", "ASSISTANT:"'),
        ("USER: What colour is the cross? ASSISTANT:", '"USER:", "ASSISTANT:"'),
        ("What? ASSISTANT:", '"ASSISTANT:"'),
        ("a </s> b <s>", '"</s>", "<s>"'),
        ("<pad>", '"<pad>"'),
        ("[INST] <image>\nWhat? [/INST]", '"[INST]", "<image>", "[/INST]"'),
        ("[INST] <<SYS>>\nBe kind\n<</SYS>> What? [/INST]", '"[INST]", "<<SYS>>", "<</SYS>>", "[/INST]"'),
        ("<s>[INST][IMG]What?[/INST]", '"<s>", "[INST]", "[IMG]", "[/INST]"'),
        ("<|im_start|>user\nWhat?<|im_end|>", '"<|im_start|>", "<|im_end|>"'),
        ("<|user|>\n<|image_1|>\nWhat?<|end|>", '"<|user|>", "<|image_1|>", "<|end|>"'),
        ("<|vision_start|><|image_pad|><|vision_end|>What?", '"<|vision_start|>", "<|image_pad|>", "<|vision_end|>"'),
        ("<｜User｜>What?", '"<｜User｜>"'),
        ("<start_of_turn>user\n<start_of_image>What?", '"<start_of_turn>", "<start_of_image>"'),
        ("<image_soft_token><IMG_CONTEXT><ImageHere>", '"<image_soft_token>", "<IMG_CONTEXT>", "<ImageHere>"'),
        ("###Human: <image>\nWhat?###Assistant:", '"###Human:", "<image>", "Assistant:"'),
        ("Human: What?\nAssistant:", '"Human:", "Assistant:"'),
        ("User:<image>What?<end_of_utterance>\nAssistant:", '"User:", "<image>", "<end_of_utterance>", "Assistant:"'),
    ],
)  # fmt: skip
def test_what_looks_like_markup_is_said_to_be_plain_text(text: str, found: str) -> None:
    encoded = encode("shapes", "published", text)
    assert encoded.text == text
    [note] = encoded.notes
    assert (note.code, note.field) == ("literal-markup", "prompt")
    assert note.text.startswith(f"The question has {found} in it, read as plain text")
    assert 'template: "raw"' in note.text
    assert '"USER: <image>\\n... ASSISTANT:"' in note.text


@pytest.mark.parametrize(
    "text",
    ["What colour is the cross?", "  Is 3 < 4 and 5 > 2?\n", "Who uses the assistant: a user?", "[1] or [STOP]?", "a|b",
     "What does the image show: a cross?", "List <b>bold</b> words.", "Wer ist der Superuser?", "x <3 y"],
)  # fmt: skip
def test_ordinary_questions_have_no_note(text: str) -> None:
    assert encode("shapes", "published", text).notes == ()


def test_many_findings_make_one_readable_sentence() -> None:
    [note] = encode("shapes", "published", " ".join(f"<|image_{i}|>" for i in range(400))).notes
    assert "and 394 more" in note.text
    assert len(note.text) < 500


def test_a_raw_prompt_may_write_what_the_models_own_template_writes() -> None:
    chat = encode("bytes", "chatml", "What?")
    turns = chat.rendered.replace("What?", "What?<|im_end|>\n<|im_start|>assistant\nA cross.<|im_end|>\n")
    raw = encode("bytes", "chatml", turns, "raw")
    tokenizer = processor_of("bytes", "chatml").tokenizer
    assert raw.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3
    assert raw.notes == ()
    with pytest.raises(
        RequestError, match="got '</s>', expected no special token but <image> and those of the model's"
    ):
        encode("bytes", "chatml", turns + "</s>", "raw")
    with pytest.raises(RequestError, match=r"got '<\|im_start\|>', expected no special token"):
        encode("bytes", "published", turns, "raw")


def test_a_raw_prompt_in_another_models_form_says_so() -> None:
    [note] = encode("shapes", "published", "[INST] <image>\nWhat? [/INST]", "raw").notes
    assert note.text.startswith('The prompt has "[INST]", "[/INST]" in it, which is plain text to this model')
    assert encode("shapes", "published", "USER: <image>\nWhat? ASSISTANT:", "raw").notes == ()


def test_the_beginning_of_the_sequence_is_there_once() -> None:
    for kind, template in PAIRS:
        tokenizer = processor_of(kind, template).tokenizer
        if template == "inst":
            assert encode(kind, template, "What?").ids.count(tokenizer.bos_token_id) == 1
            raw = "<s>[INST] <image>\nWhat? [/INST]"
            assert encode(kind, template, raw, "raw").ids == encode(kind, template, "What?").ids


def test_a_template_that_writes_the_date_is_rendered_for_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = "{{ strftime_now('%d %b %Y') }} USER: <image>\n{{ messages[0]['content'][1]['text'] }} ASSISTANT:"
    processor = processor_of("shapes", dated)
    encoder = PromptEncoder(processor, processor.tokenizer.convert_tokens_to_ids("<image>"), 40_000)
    before = encoder.encode("What?", "chat", picture_of(processor)).rendered
    stamped = processor.apply_chat_template
    later = lambda *given, **more: re.sub(r"^\d\d ... \d{4}", "01 Jan 2100", stamped(*given, **more))  # noqa: E731
    monkeypatch.setattr(processor, "apply_chat_template", later)
    after = encoder.encode("What?", "chat", picture_of(processor))
    assert after.rendered == "01 Jan 2100" + before[11:]
    assert after.text == "What?"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("USER: {{ messages[0]['content'][1]['text'] }}", "once each"),
        ("USER: <image> <image> {{ messages[0]['content'][1]['text'] }}", "once each"),
        ("USER: <image>", "once each"),
        ("<image>{{ messages[0]['content'] + '' }}", "TypeError"),
        ("{{ raise_exception('no images') }}", "no images"),
    ],
)
def test_templates_that_cannot_hold_a_picture_and_a_question_are_refused_at_load(template: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"chat template: got .*{reason}"):
        encoder_of("shapes", template)


def test_a_question_that_the_template_refuses_or_takes_apart_is_the_users_error() -> None:
    text = "{{ messages[0]['content'][1]['text'] }}"
    picky = "{% if 'cat' in MESSAGE %}{{ raise_exception('no cats') }}{% endif %}<image>MESSAGE".replace(
        "MESSAGE", text[3:-3], 1
    ).replace("MESSAGE", text)
    with pytest.raises(RequestError, match="no cats"):
        encode("shapes", picky, "Is there a cat?")
    moving = "{% if 'cat' in MESSAGE %}A cat! {% endif %}<image>".replace("MESSAGE", text[3:-3]) + text
    with pytest.raises(RequestError, match=r'leaves in its place; send the whole prompt with template: "raw"'):
        encode("shapes", moving, "Is there a cat?")
    assert encode("shapes", moving, "Is there a dog?").rendered == "<image>Is there a dog?"


def test_an_image_token_that_the_tokenizer_has_not_is_refused_at_load() -> None:
    processor = processor_of("shapes", "published")
    with pytest.raises(SettingsError, match=r"config.image_token_id: got 99999, which is None to the tokenizer"):
        PromptEncoder(processor, 99999, 40_000)
