"""Token ids to the tokens of a record: pieces, what each adds to the text, candidates.

Flow: ids and scores, one token at a time -> `AnswerReader.add` -> `Token`; a prompt's ids -> `prompt_texts`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from llava_server.run.batch import Decoded
from llava_wire.schema import Candidate, Token

_WINDOW = 16
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTE_OF = {char: byte for byte, char in bytes_to_unicode().items()}
"""How byte-level vocabularies write bytes."""


class Vocabulary:
    """The texts of single ids, decoded once each.

    Args:
        tokenizer: the model's.
        special: ids that are flagged special and add no text.
    """

    def __init__(self, tokenizer: Any, special: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.special = special
        self._piece = functools.cache(tokenizer.convert_ids_to_tokens)
        self.text = functools.cache(self._text)
        self._anchor = self._find_anchor()
        self._base = self._decode(self._anchor)

    def piece(self, token_id: int) -> str:
        """The vocabulary's own string. Models are often padded to more ids than their tokenizer has words for."""
        piece = self._piece(token_id)
        return f"<unused {token_id}>" if piece is None else str(piece)

    def adds_no_text(self, token_id: int) -> bool:
        """Whether an id is special, or none of the tokenizer's."""
        return token_id in self.special or self._piece(token_id) is None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids in the middle of a text: a space before the first is kept, bytes that make no character
        are replacement signs."""
        text = self._decode([*self._anchor, *ids])
        return text[len(self._base) :] if text.startswith(self._base) else self._decode(ids)

    def _text(self, token_id: int) -> str:
        """What an id looks like by itself: its text, its piece when it has none, bytes as `<0xE4>`."""
        if self.adds_no_text(token_id):
            return self.piece(token_id)
        text = self.decode([token_id])
        data = _bytes_of(self.piece(token_id)) if _UNREADABLE in text else None
        if data is None or data.decode("utf-8", "replace") != text:
            return text
        lossless = data.decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda m: f"<0x{ord(m[0]) - 0xDC00:02X}>", lossless)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _find_anchor(self) -> list[int]:
        """An ordinary token to decode after, because some decoders strip a space from the beginning of a text."""
        ids = [i for i in self._tokenizer("a", add_special_tokens=False)["input_ids"] if not self.adds_no_text(i)]
        return ids[-1:] if self._decode(ids[-1:]).strip() else []


def _bytes_of(piece: str) -> bytes | None:
    """The bytes that a piece stands for, when it is written in one of the two ways for bytes."""
    if fallback := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(fallback[1], 16)])
    return bytes(_BYTE_OF[char] for char in piece) if all(char in _BYTE_OF for char in piece) else None


class TextReader:
    """What each token adds to the text; joined, the parts are the text with its leading space.

    A token inside a multi-byte character adds nothing; the one that completes the character adds all of it. Only a
    window of the last tokens is decoded each time, so a long answer costs no more per token than a short one.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._window: list[int] = []
        self._done = ""
        self._pending = 0  # tokens at the window's end that added nothing yet

    def add(self, token_id: int) -> str:
        """The text that one more token adds."""
        if self._vocabulary.adds_no_text(token_id):
            return ""
        self._window.append(token_id)
        self._pending += 1
        text = self._vocabulary.decode(self._window)
        if text.endswith(_UNREADABLE) and self._inside_a_character():
            return ""
        if not text.startswith(self._done):
            # Bytes that never became a character changed how those before them are read.
            self._window = self._window[-self._pending :]
            self._done, text = "", self._vocabulary.decode(self._window)
        added = text[len(self._done) :]
        if not added:
            return ""
        self._done = text
        if len(self._window) > _WINDOW:
            # What was added last, whole characters, is the context of the next token.
            self._window = self._window[-self._pending :]
            self._done = self._vocabulary.decode(self._window)
        self._pending = 0
        return added

    def _inside_a_character(self) -> bool:
        """Whether the pending tokens are bytes that more bytes may complete; the sign itself may be in a vocabulary."""
        parts = [_bytes_of(self._vocabulary.piece(token_id)) for token_id in self._window[-self._pending :]]
        try:
            b"".join(part for part in parts if part is not None).decode("utf-8")
        except UnicodeDecodeError:
            return None not in parts
        return False

    def candidate(self, token_id: int) -> str:
        """What a token would look like here: inside a character that it completes, the character."""
        if self._pending and not self._vocabulary.adds_no_text(token_id):
            text = self._vocabulary.decode([*self._window, token_id])
            if text.startswith(self._done) and _UNREADABLE not in text[len(self._done) :]:
                return text[len(self._done) :] or self._vocabulary.text(token_id)
        return self._vocabulary.text(token_id)


class AnswerReader:
    """Makes the tokens of one answer, in order."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._text = TextReader(vocabulary)

    def add(self, token_id: int, logprob: float, top_ids: Sequence[int], top_logprobs: Sequence[float]) -> Token:
        """The next token.

        Args:
            token_id: its vocabulary id.
            logprob: natural log of its probability.
            top_ids, top_logprobs: the most probable tokens at its step, most probable first.
        """
        vocabulary = self._vocabulary
        top = tuple(
            Candidate(i, self._text.candidate(i), value) for i, value in zip(top_ids, top_logprobs, strict=True)
        )
        text = self._text.add(token_id)
        return Token(token_id, vocabulary.piece(token_id), text, logprob, top, token_id in vocabulary.special)

    def all(self, decoded: Decoded) -> tuple[Token, ...]:
        """All tokens of a finished answer."""
        rows = zip(decoded.ids, decoded.logprobs, decoded.top_ids, decoded.top_logprobs, strict=True)
        return tuple(self.add(*row) for row in rows)


def prompt_texts(vocabulary: Vocabulary, ids: Sequence[int]) -> tuple[str, ...]:
    """What each id of a prompt adds to its text; special tokens and image tokens add none."""
    reader = TextReader(vocabulary)
    return tuple(reader.add(token_id) for token_id in ids)
