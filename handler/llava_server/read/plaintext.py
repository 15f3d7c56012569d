"""A prompt to ids in which a user's text is nothing but text.

Flow: before + question + after -> ids in one go, which are the processor's own. Where the question holds a control
token, the run of ordinary text around it is tokenised again by a copy of the tokenizer that knows no control tokens,
between the template's own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from llava_server.ask.checking import invalid

_MARK = "\U000f0000llava-gaze\U000f0000"
"""Stands for the control token before a run: text after one is not the beginning of a text to every tokenizer."""
_PROBES = ("1a2", "A b", " a", "a ", "\na", "a\n", "é", "中")


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that are no text: those with a role, such as the end of sequence, and those that the tokenizer's own file
    flags as special without naming a role, such as `<|im_start|>`."""
    flagged = (token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset(flagged) | frozenset(i for i in tokenizer.all_special_ids if i is not None)


@dataclass(frozen=True)
class Encoded:
    """Token ids and, for each, the characters of the text it was made of; none for tokens that were added."""

    ids: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class _Frame:
    """A template's own tokens around a question.

    Args:
        head, tail: its tokens up to the control token before the question, and from the one after it.
        first, last: how many characters they take at either end.
        mark: whether a control token stands before the question.
        roles: its control tokens, in order.
    """

    head: Encoded
    tail: Encoded
    first: int
    last: int
    mark: str
    roles: list[int]


class PlainText:
    """Tokenises prompts of one tokenizer; nothing in it changes after it was made, so threads may share it.

    Args:
        tokenizer: a fast tokenizer.
        controls: ids that a user's text must not become.
    """

    def __init__(self, tokenizer: Any, controls: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.controls: dict[int, str] = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in controls}
        # Unknown characters become this one; that is no harm.
        self.roles = frozenset(controls) - {tokenizer.unk_token_id}
        self._framed = functools.lru_cache(maxsize=8)(self._frame)
        self._agreed = functools.lru_cache(maxsize=8)(self._agrees)

    def tokenise(self, text: str, *, bos: bool) -> Encoded:
        """A text in one go, control tokens and all.

        Args:
            text: the text.
            bos: whether the beginning of the sequence stands in it; the processor then adds none.
        """
        found = self._tokenizer(text, add_special_tokens=not (bos and self._tokenizer.bos_token),
                                return_offsets_mapping=True)  # fmt: skip
        return Encoded(list(found["input_ids"]), [tuple(span) for span in found["offset_mapping"]])

    def encode(self, before: str, question: str, after: str, *, bos: bool) -> Encoded:
        """A question in its template.

        Args:
            before, after: the template's own text.
            question: the user's.
            bos: whether the template writes the beginning of the sequence.

        Raises:
            RequestError: "invalid" when the question has a control token that cannot be read as text.
        """
        whole = self.tokenise(before + question + after, bos=bos)
        frame = self._framed(before, after, bos)
        typed = next((text for text in self.controls.values() if text in question), None)
        if typed is None and self._roles(whole) == frame.roles:
            return whole
        apart = self._apart(frame, before + question + after)
        if self._roles(apart) != frame.roles or not self._agreed(before, after, bos):
            raise invalid("prompt", typed or question, "no special token of this model in a question; leave it out")
        return apart

    def _roles(self, encoded: Encoded) -> list[int]:
        return [i for i in encoded.ids if i in self.roles]

    def _frame(self, before: str, after: str, bos: bool) -> _Frame:
        probe = _PROBES[0]
        text = before + probe + after
        whole = self.tokenise(text, bos=bos)
        start, end, count = len(before), len(before) + len(probe), len(whole.ids)
        fixed = [k for k in range(count) if whole.ids[k] in self.roles]
        left = [k for k in fixed if whole.spans[k][0] < whole.spans[k][1] <= start]
        right = [k for k in fixed if whole.spans[k][1] > whole.spans[k][0] >= end]
        # Tokens that the tokenizer adds at either end have no characters.
        i = left[-1] + 1 if left else next(k for k in range(count) if whole.spans[k][1])
        j = right[0] if right else max(k for k in range(count) if whole.spans[k][1]) + 1
        return _Frame(
            head=Encoded(whole.ids[:i], whole.spans[:i]),
            tail=Encoded(whole.ids[j:], [(a - len(text), b - len(text)) if b else (0, 0) for a, b in whole.spans[j:]]),
            first=whole.spans[left[-1]][1] if left else 0,
            last=len(text) - whole.spans[right[0]][0] if right else 0,
            mark=_MARK if left else "",
            roles=self._roles(whole),
        )

    def _apart(self, frame: _Frame, text: str) -> Encoded:
        """A prompt whose control tokens are the frame's alone."""
        run = self._backend.encode(frame.mark + text[frame.first : len(text) - frame.last], add_special_tokens=False)
        skip, shift = (1, frame.first - len(frame.mark)) if frame.mark else (0, frame.first)
        spans = [(left + shift, right + shift) for left, right in run.offsets[skip:]]
        tail = [(left + len(text), right + len(text)) if left < 0 else (0, 0) for left, right in frame.tail.spans]
        return Encoded(frame.head.ids + run.ids[skip:] + frame.tail.ids, frame.head.spans + spans + tail)

    def _agrees(self, before: str, after: str, bos: bool) -> bool:
        """Whether ordinary text has the same ids either way with this tokenizer and template."""
        frame = self._framed(before, after, bos)
        texts = [before + probe + after for probe in _PROBES]
        return all(self._apart(frame, text) == self.tokenise(text, bos=bos) for text in texts)

    @functools.cached_property
    def _backend(self) -> Tokenizer:
        """The tokenizer with every control token as text."""
        content = json.loads(self._tokenizer.backend_tokenizer.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["special"] or token["id"] in self.controls
        content["truncation"] = content["padding"] = None
        backend = Tokenizer.from_str(json.dumps(content))
        backend.encode_special_tokens = True
        backend.add_tokens([AddedToken(_MARK, normalized=False, special=False)])
        return backend
