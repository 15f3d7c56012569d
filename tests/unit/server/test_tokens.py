"""Token texts: what each id adds to a text, and what it looks like by itself, with every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_server.answer.tokens import AnswerReader, TextReader, Vocabulary, prompt_texts
from llava_server.read.plaintext import special_ids
from support.processors import tokenizer_of

KINDS = ("shapes", "stand-in", "llama", "llama-class", "bytes")


def vocabulary_of(kind: str) -> Vocabulary:
    tokenizer = tokenizer_of(kind)
    return Vocabulary(tokenizer, special_ids(tokenizer))


def ids_of(kind: str, text: str) -> list[int]:
    return list(tokenizer_of(kind)(text, add_special_tokens=False)["input_ids"])


def texts_of(kind: str, ids: list[int]) -> list[str]:
    reader = TextReader(vocabulary_of(kind))
    return [reader.add(i) for i in ids]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet="ab é🎈中\ufffd\n", min_size=1, max_size=60))
def test_token_texts_join_to_the_text(kind: str, text: str) -> None:
    ids = ids_of(kind, text)
    texts = texts_of(kind, ids)
    assert len(texts) == len(ids)
    # Llama's normalizer puts a space before every text, and its vocabulary has that space.
    prefix = " " if kind in ("stand-in", "llama", "llama-class") else ""
    assert "".join(texts) in (prefix + text, text)


@pytest.mark.parametrize("text", ["🎈" * 12, "中文" * 9 + " and 🎈", "a 🎈 b " * 6])
@pytest.mark.parametrize("kind", ["stand-in", "bytes"])
def test_long_runs_of_bytes_keep_their_text(kind: str, text: str) -> None:
    assert "".join(texts_of(kind, ids_of(kind, text))).removeprefix(" ") == text


def test_bytes_that_are_no_character_cost_no_other_text() -> None:
    tokenizer = tokenizer_of("stand-in")
    ids = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in "🎈".encode()]
    text = "".join(texts_of("stand-in", [*ids, *ids[:2], *ids_of("stand-in", "red and blue")]))
    assert text.startswith("🎈")
    assert text.endswith(" red and blue")


def test_the_first_word_of_an_answer_keeps_its_space() -> None:
    assert texts_of("stand-in", ids_of("stand-in", "red circle")) == [" red", " circle"]


@pytest.mark.parametrize(
    ("kind", "piece", "text"),
    [
        ("stand-in", "▁red", " red"),
        ("stand-in", "<0xE4>", "<0xE4>"),
        ("stand-in", "<0x0A>", "\n"),
        ("stand-in", "</s>", "</s>"),
        ("llama", "▁red", " red"),
        ("llama", "▁", " "),
        ("llama", "<0xF0>", "<0xF0>"),
        ("llama-class", "▁red", " red"),
        ("bytes", "Ġ", " "),
        ("bytes", "Ã", "<0xC3>"),
        ("bytes", "Ċ", "\n"),
        ("bytes", "<|im_end|>", "<|im_end|>"),
        ("bytes", "<think>", "<think>"),
        ("shapes", "Ġred", " red"),
    ],
)
def test_what_a_candidate_looks_like(kind: str, piece: str, text: str) -> None:
    vocabulary = vocabulary_of(kind)
    token_id = tokenizer_of(kind).convert_tokens_to_ids(piece)
    assert vocabulary.piece(token_id) == piece
    assert vocabulary.text(token_id) == text
    assert AnswerReader(vocabulary).add(token_id, -1.0, [token_id], [-1.0]).top[0].text == text


def test_no_id_of_the_real_vocabulary_looks_like_a_replacement_sign_or_nothing() -> None:
    vocabulary = vocabulary_of("llama")
    texts = [vocabulary.text(i) for i in range(32064)]
    assert all(texts)
    # The sign itself is in the vocabulary, twice, and is text like any other.
    assert [text for text in texts if "\ufffd" in text] == ["\ufffd\ufffd", "\ufffd"]
    assert texts_of("llama", ids_of("llama", "a \ufffd"))[-1] == "\ufffd"


@pytest.mark.parametrize("kind", ["stand-in", "bytes"])
def test_a_candidate_that_completes_a_character_shows_it(kind: str) -> None:
    ids = ids_of(kind, "a中")
    reader = AnswerReader(vocabulary_of(kind))
    tokens = [reader.add(i, -1.0, [i], [-1.0]) for i in ids]
    assert [token.text for token in tokens[-3:]] == ["", "", "中"]
    assert [token.top[0].text for token in tokens[-3:]] == ["<0xE4>", "<0xB8>", "中"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_beyond_the_tokenizer_have_a_name_and_no_text(kind: str) -> None:
    beyond = len(tokenizer_of(kind)) + 7
    vocabulary = vocabulary_of(kind)
    token = AnswerReader(vocabulary).add(beyond, -1.0, [beyond], [-1.0])
    assert (token.piece, token.text, token.special) == (f"<unused {beyond}>", "", False)
    assert token.top[0].text == f"<unused {beyond}>"
    around = ids_of(kind, "a é")
    assert "".join(prompt_texts(vocabulary, [*around, beyond, *around])).count("é") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_question_words_are_text_and_not_the_vocabularys_spelling(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer("Où est le café ? <image></s>")["input_ids"]
    texts = prompt_texts(vocabulary_of(kind), ids)
    assert len(texts) == len(ids)
    assert "".join(texts).strip() == "Où est le café ?"


def test_tokens_that_the_file_flags_special_are_so_without_a_role() -> None:
    tokenizer = tokenizer_of("bytes")
    special = {tokenizer.convert_ids_to_tokens(i) for i in special_ids(tokenizer)}
    assert special == {"<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>"}
