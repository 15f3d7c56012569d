"""The user's text to token ids, so that nothing a user types becomes a special token.

Flow: text -> the model's chat template (or raw) -> ids with one `<image>` -> ids with one id per patch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from llava_server.options import invalid
from llava_server.settings import SettingsError
from llava_wire.errors import RequestError
from llava_wire.schema import Note

_PROBE = "Probe text 7q"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model reads it.

    Args:
        rendered: the text with one `<image>`.
        ids: token ids, the image token once per patch.
        image_start, image_count: where the run of image tokens lies in `ids`.
        question: positions in `ids` of the user's own text tokens.
        notes: what the user should know about how the text was read.
    """

    rendered: str
    ids: tuple[int, ...]
    image_start: int
    image_count: int
    question: tuple[int, ...]
    notes: tuple[Note, ...] = ()


class PromptEncoder:
    """Renders and tokenises prompts for one processor.

    Args:
        processor: a LlavaProcessor with a fast tokenizer and, for template "chat", a chat template.
        image_token_id: the id that stands for one patch.
        image_tokens: patches of one picture.

    Raises:
        SettingsError: when the tokenizer cannot do what prompts need.
    """

    def __init__(self, processor: Any, image_token_id: int, image_tokens: int) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        # Whether special tokens are split is a state of the tokenizer, which calls in other threads would change.
        self._turn = threading.Lock()
        self._image_id = image_token_id
        self._image_tokens = image_tokens
        self._image_text: str = self._tokenizer.convert_ids_to_tokens(image_token_id)
        if not self._tokenizer.is_fast:
            raise SettingsError("tokenizer: got a slow tokenizer, allowed a fast one (tokenizer.json)")
        self._special_texts = tuple(
            sorted(
                {str(token) for token in self._tokenizer.all_special_tokens} | {self._image_text}, key=len, reverse=True
            )
        )
        self._prefix, self._suffix = self._template_parts() if processor.chat_template else ("", "")
        self._tail_extra = self._probe_tail() if processor.chat_template else 0

    def encode(self, text: str, template: str) -> EncodedPrompt:
        """Tokenises one prompt.

        Args:
            text: what the user typed.
            template: "chat" wraps it in the model's chat template; "raw" takes it as it is, with its one `<image>`.

        Raises:
            RequestError: "invalid" for a raw prompt without exactly one `<image>` or with other special tokens.
        """
        if template == "raw":
            self._check_raw(text)
            ids, spans = self._tokenise(text)
            question = (0, len(text))
            rendered = text
        else:
            if not self._processor.chat_template:
                raise invalid("options.template", "chat", '"raw" for this model, which has no chat template')
            rendered = self._prefix + text + self._suffix
            question = (len(self._prefix), len(self._prefix) + len(text))
            hostile = any(special in text for special in self._special_texts)
            ids, spans = self._tokenise_tail_apart(rendered) if hostile else self._tokenise(rendered)
        return self._expand(rendered, ids, spans, question)

    def _expand(
        self, rendered: str, ids: list[int], spans: list[tuple[int, int]], question: tuple[int, int]
    ) -> EncodedPrompt:
        if ids.count(self._image_id) != 1:
            raise RuntimeError(f"prompt: got {ids.count(self._image_id)} image tokens, allowed 1")
        start, extra = ids.index(self._image_id), self._image_tokens - 1
        special = set(self._tokenizer.all_special_ids) | {self._image_id}
        own = [
            i if i < start else i + extra
            for i, (token, (left, right)) in enumerate(zip(ids, spans, strict=True))
            if token not in special and right > left and right > question[0] and left < question[1]
        ]
        expanded = (*ids[:start], *([self._image_id] * self._image_tokens), *ids[start + 1 :])
        return EncodedPrompt(rendered, expanded, start, self._image_tokens, tuple(own))

    def _tokenise(self, text: str, **options: Any) -> tuple[list[int], list[tuple[int, int]]]:
        with self._turn:
            encoded = self._tokenizer(text, return_offsets_mapping=True, **options)
        return list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]

    def _tokenise_tail_apart(self, rendered: str) -> tuple[list[int], list[tuple[int, int]]]:
        """What follows the image as plain text, special strings included: the same ids as in one go otherwise."""
        cut = rendered.index(self._image_text) + len(self._image_text)
        head_ids, head_spans = self._tokenise(rendered[:cut])
        ids, spans = self._tokenise(rendered[cut:], add_special_tokens=False, split_special_tokens=True)
        ids, spans = ids[self._tail_extra :], spans[self._tail_extra :]
        return head_ids + ids, head_spans + [(left + cut, right + cut) for left, right in spans]

    def _check_raw(self, text: str) -> None:
        count = text.count(self._image_text)
        if count != 1:
            raise invalid(
                "prompt", text, f"exactly one {self._image_text} in a raw prompt (got {count}); add or remove it"
            )
        for special in self._special_texts:
            if special != self._image_text and special in text:
                raise invalid("prompt", special, f"no special token but {self._image_text} in a raw prompt; remove it")

    def _template_parts(self) -> tuple[str, str]:
        """The template's text before and after the user's text, found by rendering two different probes."""
        parts = []
        for probe in (_PROBE, _PROBE + " again"):
            content = [{"type": "image"}, {"type": "text", "text": probe}]
            rendered = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            if rendered.count(probe) != 1 or rendered.count(self._image_text) != 1:
                raise SettingsError(
                    f"chat template: got {rendered!r:.120}, allowed the text and {self._image_text} once each"
                )
            parts.append(tuple(rendered.split(probe)))
        prefix, suffix = parts[0]
        if parts[0] != parts[1] or self._image_text not in prefix:
            raise SettingsError(f"chat template: got {parts[0]!r:.120}, allowed {self._image_text} before the text")
        # A tokenizer that adds its own start of sequence would add a second one to a template that writes it out.
        bos = self._tokenizer.bos_token
        if bos and prefix.startswith(bos):
            ids = self._tokenizer(prefix)["input_ids"]
            if ids[:2] == [self._tokenizer.bos_token_id] * 2:
                prefix = prefix[len(bos) :]
        return prefix, suffix

    def _probe_tail(self) -> int:
        """How many leading tokens a tail has only because it was tokenised apart (SentencePiece's first space)."""
        rendered = self._prefix + _PROBE + self._suffix
        whole, _ = self._tokenise(rendered)
        tail = whole[whole.index(self._image_id) + 1 :]
        cut = rendered.index(self._image_text) + len(self._image_text)
        apart, _ = self._tokenise(rendered[cut:], add_special_tokens=False, split_special_tokens=True)
        for extra in (0, 1):
            if apart[extra:] == tail:
                return extra
        raise SettingsError("tokenizer: got other ids for text tokenised apart, allowed at most one leading token more")


def check_context(length: int, new_tokens: int, context: int) -> None:
    """Refuses what the position embeddings cannot hold.

    Raises:
        RequestError: "invalid", with both numbers.
    """
    if length + new_tokens > context:
        raise RequestError(
            "invalid",
            "prompt",
            f"got {length} prompt tokens and max_new_tokens {new_tokens}, allowed {context} together; shorten one",
        )
