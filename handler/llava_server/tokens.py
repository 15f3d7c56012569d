"""Token ids to the tokens of a record: pieces, what each adds to the text, candidates.

Flow: ids and scores, one token at a time -> `AnswerReader.add` -> `Token`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

from llava_server.batch import Decoded
from llava_wire.schema import Candidate, Token

_WINDOW = 16


class TextReader:
    """What each token adds to the text; joined, the parts are the text with its leading space.

    A token inside a multi-byte character adds nothing; the one that completes the character adds all of it. Only a
    window of the last tokens is decoded each time, so a long answer costs no more per token than a short one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._done = ""
        self._pending = 0  # tokens at the window's end that added nothing yet

    def add(self, token_id: int) -> str:
        """The text that one more token adds."""
        self._window.append(token_id)
        self._pending += 1
        text = self._decode()
        if text.endswith("�"):
            return ""
        if not text.startswith(self._done):
            # Bytes that never became a character changed how those before them are read.
            self._window = self._window[-self._pending :]
            self._done, text = "", self._decode()
        added = text[len(self._done) :]
        if not added:
            return ""
        self._done = text
        if len(self._window) > _WINDOW:
            # What was added last, whole characters, is the context of the next token.
            self._window = self._window[-self._pending :]
            self._done = self._decode()
        self._pending = 0
        return added

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(self._window, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class Vocabulary:
    """The texts of single ids, decoded once each.

    Args:
        tokenizer: the model's.
        special: ids that are flagged special and add no text.
    """

    def __init__(self, tokenizer: Any, special: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self.special = special
        self.text = functools.cache(lambda token_id: str(tokenizer.decode([token_id])))
        self.piece = functools.cache(lambda token_id: str(tokenizer.convert_ids_to_tokens(token_id)))


class AnswerReader:
    """Makes the tokens of one answer, in order."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._text = TextReader(vocabulary.tokenizer)

    def add(self, token_id: int, logprob: float, top_ids: Sequence[int], top_logprobs: Sequence[float]) -> Token:
        """The next token.

        Args:
            token_id: its vocabulary id.
            logprob: natural log of its probability.
            top_ids, top_logprobs: the most probable tokens at its step, most probable first.
        """
        vocabulary = self._vocabulary
        text, special = self._text.add(token_id), token_id in vocabulary.special
        top = tuple(Candidate(i, vocabulary.text(i), value) for i, value in zip(top_ids, top_logprobs, strict=True))
        return Token(token_id, vocabulary.piece(token_id), "" if special else text, logprob, top, special)

    def all(self, decoded: Decoded) -> tuple[Token, ...]:
        """All tokens of a finished answer."""
        rows = zip(decoded.ids, decoded.logprobs, decoded.top_ids, decoded.top_logprobs, strict=True)
        return tuple(self.add(*row) for row in rows)
