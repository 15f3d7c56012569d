"""The user's text to token ids, so that nothing a user types becomes a special token.

Flow: text -> the model's chat template (or raw) -> ids with one `<image>` -> ids with one id per patch, and notes on
what in the text may not mean what its writer thought.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llava_server.ask.checking import invalid
from llava_server.ask.request import shows_nothing
from llava_server.ask.settings import SettingsError
from llava_server.read.chat import ChatTemplate
from llava_server.read.markup import Markup, quoted
from llava_server.read.plaintext import Encoded, PlainText, special_ids
from llava_wire.errors import RequestError
from llava_wire.schema import Note

_FORM_CHARS = 120


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model reads it.

    Args:
        text: the user's question; of a raw prompt, the whole of it.
        rendered: the whole prompt with one `<image>`.
        ids: token ids, the image token once per patch.
        image_start, image_count: where the run of patches lies in `ids`.
        picture_start: where the picture's tokens begin: at `image_start`, or before it with a class token.
        question: positions in `ids` of the user's own text tokens.
        notes: what the user should know about how the text was read.
    """

    text: str
    rendered: str
    ids: tuple[int, ...]
    image_start: int
    image_count: int
    question: tuple[int, ...]
    picture_start: int
    notes: tuple[Note, ...] = ()


class PromptEncoder:
    """Renders and tokenises prompts for one processor; usable from several threads.

    Args:
        processor: a LlavaProcessor with a fast tokenizer and, for template "chat", a chat template.
        image_token_id: the id that stands for one patch.
        image_tokens: patches of one picture.
        embedded: how many ids the model has embeddings for.
        lead_tokens: tokens of the picture before its patches.

    Raises:
        SettingsError: when the tokenizer or the template cannot do what prompts need.
    """

    def __init__(
        self, processor: Any, image_token_id: int, image_tokens: int, embedded: int, *, lead_tokens: int = 0
    ) -> None:
        tokenizer = processor.tokenizer
        if not tokenizer.is_fast:
            raise SettingsError("tokenizer: got a slow tokenizer, allowed a fast one (tokenizer.json)")
        image_text = tokenizer.convert_ids_to_tokens(image_token_id)
        if image_text is None or tokenizer(image_text, add_special_tokens=False)["input_ids"] != [image_token_id]:
            raise SettingsError(
                f"config.image_token_id: got {image_token_id}, which is {image_text!r} to the tokenizer, allowed the "
                "id of a token of its own; take the tokenizer and the configuration from one checkpoint"
            )
        self._tokenizer = tokenizer
        self._embedded = embedded
        self._image_id = image_token_id
        self._image_tokens = image_tokens
        self._lead_tokens = lead_tokens
        self._image_text: str = image_text
        self._bos: str = tokenizer.bos_token or ""
        self._chat = ChatTemplate(processor, image_text) if processor.chat_template else None
        around = self._chat.around() if self._chat else ("", "")
        self._template = "".join(around)
        # Of the tokens without the flag, those that the template writes have a role too.
        written = {
            i for i, token in tokenizer.added_tokens_decoder.items()
            if token.content in self._template and not token.content.isspace()
        }  # fmt: skip
        self._plain = PlainText(tokenizer, special_ids(tokenizer) | written | {image_token_id})
        self._allowed_raw = {text for text in self._plain.controls.values() if text in self._template} | {image_text}
        self._markup = Markup(self._plain.controls.values(), self._template)
        self._form = _form(*around)
        always = self._plain.encode(around[0], "", around[1], bos=around[0].startswith(self._bos)).ids
        if found := self._beyond([*always, image_token_id]):
            raise SettingsError(
                f"tokenizer: got {found} in every prompt, allowed ids 0 to {embedded - 1}, which the model has "
                "embeddings for; take tokenizer, configuration and weights from one checkpoint"
            )

    def encode(self, text: str, template: str, *, literal: bool = False) -> EncodedPrompt:
        """Tokenises one prompt.

        Args:
            text: what the user typed.
            template: "chat" wraps it in the model's chat template; "raw" takes it as it is, with its one `<image>`.
            literal: the text of template "chat" is a question, whatever it looks like. Otherwise a whole prompt in the
                template's own form is taken for the question inside it, which gives the same ids.

        Raises:
            RequestError: "invalid" for a raw prompt without exactly one `<image>` or with special tokens that the
                model's template does not write, and for text that cannot be kept from becoming a special token.
        """
        if template == "raw":
            return self._raw(text)
        if self._chat is None:
            raise invalid("options.template", "chat", '"raw" for this model, which has no chat template')
        around = self._chat.around()
        inner = None if literal else self._chat.question_in(text, around)
        if inner is not None and shows_nothing(inner):
            raise invalid("prompt", text, "a question inside the model's chat template; ask one")
        chat = self._chat.render(text if inner is None else inner, around)
        encoded = self._plain.encode(chat.before, chat.question, chat.after, bos=chat.before.startswith(self._bos))
        span = (len(chat.before), len(chat.before) + len(chat.question))
        note = self._literal_note(text) if inner is None else self._inner_note(inner)
        return self._expand(text if inner is None else inner, chat.text, encoded, span, note)

    def _raw(self, text: str) -> EncodedPrompt:
        self._check_raw(text)
        encoded = self._plain.tokenise(text, bos=text.startswith(self._bos))
        typed = [i for i, (left, right) in zip(encoded.ids, encoded.spans, strict=True) if right > left]
        for i in typed:
            if i in self._plain.roles and self._plain.controls[i] not in self._allowed_raw:
                raise self._not_in_raw(self._plain.controls[i])
        if typed.count(self._image_id) != 1:
            raise invalid("prompt", text, f"exactly one {self._image_text} in a raw prompt; spell it as the model does")
        foreign = [one for one in self._markup.find(text) if one not in self._template and one != self._image_text]
        note = None
        if foreign and self._chat:
            form = f"which is plain text to this model, whose own form is {self._form}."
            note = _note("literal-markup", f"The prompt has {quoted(foreign)} in it, {form}")
        return self._expand(text, text, encoded, (0, len(text)), note)

    def _check_raw(self, text: str) -> None:
        count = text.count(self._image_text)
        if count != 1:
            raise invalid(
                "prompt", text, f"exactly one {self._image_text} in a raw prompt (got {count}); add or remove it"
            )
        for special in sorted(self._plain.controls.values(), key=len, reverse=True):
            if special in text and special not in self._allowed_raw:
                raise self._not_in_raw(special)

    def _not_in_raw(self, special: str) -> RequestError:
        own = " and those of the model's chat template" if self._chat else ""
        return invalid("prompt", special, f"no special token but {self._image_text}{own} in a raw prompt; remove it")

    def _expand(
        self, text: str, rendered: str, encoded: Encoded, question: tuple[int, int], note: Note | None
    ) -> EncodedPrompt:
        ids = encoded.ids
        if ids.count(self._image_id) != 1:
            raise RuntimeError(f"prompt: got {ids.count(self._image_id)} image tokens, allowed 1")
        if found := self._beyond(ids):
            raise invalid("prompt", found, "text of tokens that the model has embeddings for; leave this out")
        tokens = self._lead_tokens + self._image_tokens
        start, extra = ids.index(self._image_id), tokens - 1
        own = [
            i if i < start else i + extra
            for i, (token, (left, right)) in enumerate(zip(ids, encoded.spans, strict=True))
            if token not in self._plain.roles and right > left and right > question[0] and left < question[1]
        ]
        return EncodedPrompt(
            text=text,
            rendered=rendered,
            ids=(*ids[:start], *([self._image_id] * tokens), *ids[start + 1 :]),
            image_start=start + self._lead_tokens,
            image_count=self._image_tokens,
            question=tuple(own),
            picture_start=start,
            notes=() if note is None else (note,),
        )

    def _beyond(self, ids: Iterable[int]) -> str:
        """The first token that the tokenizer knows and the model does not, or ""; on a GPU it would end the worker."""
        beyond = next((i for i in ids if i >= self._embedded), None)
        return "" if beyond is None else f"{self._tokenizer.convert_ids_to_tokens(beyond)} ({beyond})"

    def _literal_note(self, text: str) -> Note | None:
        found = self._markup.find(text)
        if not found:
            return None
        return _note(
            "literal-markup",
            f"The question has {quoted(found)} in it, read as plain text: the chat template puts the picture and the "
            f"roles around a question by itself ({self._form}). Leave that out, or send the whole prompt in that form "
            'with template: "raw".',
        )

    def _inner_note(self, inner: str) -> Note:
        # The template's role words are in such a prompt what they are in its own.
        found = [one for one in self._markup.find(inner) if one not in self._template or one == self._image_text]
        rest = f" {quoted(found)} in it is plain text." if found else ""
        return _note(
            "whole-template",
            "The prompt was the model's whole chat template with a question in it, and was read as that question: the "
            f'same tokens as with template: "raw".{rest}',
        )


def _note(code: str, text: str) -> Note:
    return Note(code, "prompt", text)


def _form(before: str, after: str) -> str:
    """The template's form in one line, for a sentence."""
    parts = [part.replace("\n", "\\n") for part in (before, after)]
    head = parts[0] if len(parts[0]) <= _FORM_CHARS else "..." + parts[0][-_FORM_CHARS:]
    return f'"{head}...{parts[1][:_FORM_CHARS]}"'


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
