"""The user's text to token ids, so that nothing a user types becomes a special token.

Flow: text -> the model's chat template (or raw) -> ids with one `<image>` a picture -> ids with the pictures'
tokens, and notes on what in the text may not mean what its writer thought.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llava_doors.family import Layout
from llava_server.ask.checking import invalid
from llava_server.ask.request import shows_nothing
from llava_server.ask.settings import SettingsError
from llava_server.read.chat import ChatTemplate
from llava_server.read.markup import Markup, quoted
from llava_server.read.placing import placed
from llava_server.read.plaintext import Encoded, PlainText, special_ids
from llava_wire.errors import RequestError
from llava_wire.schema import Note

_FORM_CHARS = 120


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model reads it.

    Args:
        text: the user's question; of a raw prompt, the whole of it.
        rendered: the whole prompt with one `<image>` a picture.
        ids: token ids, the pictures' expanded.
        patches: positions in `ids` of the patches of all grids, in the order of the maps; a range where it can be one.
        filled: positions in `ids` whose embeddings are the vision side's features.
        question: positions in `ids` of the user's own text tokens.
        notes: what the user should know about how the text was read.
        separators: positions in `ids` of the pictures' tokens that are in no grid.
    """

    text: str
    rendered: str
    ids: tuple[int, ...]
    patches: Sequence[int]
    filled: tuple[int, ...]
    question: tuple[int, ...]
    notes: tuple[Note, ...] = ()
    separators: tuple[int, ...] = ()


class PromptEncoder:
    """Renders and tokenises prompts for one processor; usable from several threads.

    Args:
        processor: has a fast tokenizer and, for template "chat", a chat template.
        image_token_id: the id whose embeddings are the vision side's features.
        embedded: how many ids the model has embeddings for.
        placeholder: the token that stands for one picture; that of `image_token_id` when empty.

    Raises:
        SettingsError: when the tokenizer or the template cannot do what prompts need.
    """

    def __init__(self, processor: Any, image_token_id: int, embedded: int, placeholder: str = "") -> None:
        tokenizer = processor.tokenizer
        if not tokenizer.is_fast:
            raise SettingsError("tokenizer: got a slow tokenizer, expected a fast one (tokenizer.json)")
        image_text = tokenizer.convert_ids_to_tokens(image_token_id)
        if image_text is None or tokenizer(image_text, add_special_tokens=False)["input_ids"] != [image_token_id]:
            raise SettingsError(
                f"config.image_token_id: got {image_token_id}, which is {image_text!r} to the tokenizer, expected the "
                "id of a token of its own; take the tokenizer and the configuration from one checkpoint"
            )
        self._tokenizer = tokenizer
        self._embedded = embedded
        self._image_id = image_token_id
        self._image_text: str = placeholder or image_text
        self._placeholder_id: int = tokenizer.convert_tokens_to_ids(self._image_text)
        self._bos: str = tokenizer.bos_token or ""
        self._chat = ChatTemplate(processor, self._image_text) if processor.chat_template else None
        around = self._chat.around() if self._chat else ("", "")
        self._template = "".join(around)
        # Of the tokens without the flag, those that the template writes have a role too.
        written = {
            i for i, token in tokenizer.added_tokens_decoder.items()
            if token.content in self._template and not token.content.isspace()
        }  # fmt: skip
        self._plain = PlainText(tokenizer, special_ids(tokenizer) | written | {image_token_id, self._placeholder_id})
        allowed = {text for text in self._plain.controls.values() if text in self._template}
        self._allowed_raw = allowed | {self._image_text}
        self._markup = Markup(self._plain.controls.values(), self._template)
        self._form = _form(*around)
        always = self._plain.encode(around[0], "", around[1], bos=around[0].startswith(self._bos)).ids
        if found := self._beyond([*always, image_token_id, self._placeholder_id]):
            raise SettingsError(
                f"tokenizer: got {found} in every prompt, expected ids 0 to {embedded - 1}, which the model has "
                "embeddings for; take tokenizer, configuration and weights from one checkpoint"
            )

    def encode(self, text: str, template: str, layout: Layout, *, literal: bool = False) -> EncodedPrompt:
        """Tokenises one prompt.

        Args:
            text: what the user typed.
            template: "chat" wraps it in the model's chat template; "raw" takes it as it is, with one `<image>` for
                each picture.
            layout: of its pictures.
            literal: the text of template "chat" is a question, whatever it looks like. Otherwise a whole prompt in the
                template's own form is taken for the question inside it, which gives the same ids.

        Raises:
            RequestError: "invalid" for a raw prompt with another number of `<image>` or with special tokens that the
                model's template does not write, and for text that cannot be kept from becoming a special token.
        """
        if template == "raw":
            return self._raw(text, layout)
        if self._chat is None:
            raise invalid("options.template", "chat", '"raw" for this model, which has no chat template')
        chat = self._chat.of(len(layout.expansions))
        around = chat.around()
        inner = None if literal else chat.question_in(text, around)
        if inner is not None and shows_nothing(inner):
            raise invalid("prompt", text, "a question inside the model's chat template; ask one")
        whole = chat.render(text if inner is None else inner, around)
        encoded = self._plain.encode(whole.before, whole.question, whole.after, bos=whole.before.startswith(self._bos))
        span = (len(whole.before), len(whole.before) + len(whole.question))
        note = self._literal_note(text) if inner is None else self._inner_note(inner)
        return self._expand(text if inner is None else inner, whole.text, encoded, span, layout, note)

    def _raw(self, text: str, layout: Layout) -> EncodedPrompt:
        pictures = len(layout.expansions)
        self._check_raw(text, pictures)
        encoded = self._plain.tokenise(text, bos=text.startswith(self._bos))
        typed = [i for i, (left, right) in zip(encoded.ids, encoded.spans, strict=True) if right > left]
        for i in typed:
            if i in self._plain.roles and self._plain.controls[i] not in self._allowed_raw:
                raise self._not_in_raw(self._plain.controls[i])
        if typed.count(self._placeholder_id) != pictures:
            wanted = f"exactly {_number(pictures)} {self._image_text} in a raw prompt"
            raise invalid("prompt", text, f"{wanted}; spell it as the model does")
        foreign = [one for one in self._markup.find(text) if one not in self._template and one != self._image_text]
        note = None
        if foreign and self._chat:
            form = f"which is plain text to this model, whose own form is {self._form}."
            note = _note("literal-markup", f"The prompt has {quoted(foreign)} in it, {form}")
        return self._expand(text, text, encoded, (0, len(text)), layout, note)

    def _check_raw(self, text: str, pictures: int) -> None:
        count = text.count(self._image_text)
        if count != pictures:
            wanted = f"exactly {_number(pictures)} {self._image_text} in a raw prompt"
            raise invalid("prompt", text, f"{wanted} (got {count}); add or remove it")
        for special in sorted(self._plain.controls.values(), key=len, reverse=True):
            if special in text and special not in self._allowed_raw:
                raise self._not_in_raw(special)

    def _not_in_raw(self, special: str) -> RequestError:
        own = " and those of the model's chat template" if self._chat else ""
        return invalid("prompt", special, f"no special token but {self._image_text}{own} in a raw prompt; remove it")

    def _expand(
        self,
        text: str,
        rendered: str,
        encoded: Encoded,
        question: tuple[int, int],
        layout: Layout,
        note: Note | None,
    ) -> EncodedPrompt:
        ids, pictures = encoded.ids, len(layout.expansions)
        if ids.count(self._placeholder_id) != pictures:
            raise RuntimeError(f"prompt: got {ids.count(self._placeholder_id)} image tokens, expected {pictures}")
        if found := self._beyond(ids):
            raise invalid("prompt", found, "text of tokens that the model has embeddings for; leave this out")
        expanded = placed(ids, self._placeholder_id, self._image_id, layout)
        own = [
            i
            for i, token, (left, right) in zip(expanded.moved, ids, encoded.spans, strict=True)
            if token not in self._plain.roles and right > left and right > question[0] and left < question[1]
        ]
        return EncodedPrompt(
            text=text,
            rendered=rendered,
            ids=expanded.ids,
            patches=expanded.patches,
            filled=expanded.filled,
            question=tuple(own),
            notes=() if note is None else (note,),
            separators=expanded.separators,
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
            f"The question has {quoted(found)} in it, read as plain text: the chat template puts the image and the "
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


def _number(count: int) -> str:
    return "one" if count == 1 else str(count)


def _note(code: str, text: str) -> Note:
    return Note(code, "prompt", text)


def _form(before: str, after: str) -> str:
    """The template's form in one line, for a sentence."""
    parts = [part.replace("\n", "\\n") for part in (before, after)]
    head = parts[0] if len(parts[0]) <= _FORM_CHARS else "..." + parts[0][-_FORM_CHARS:]
    return f'"{head}...{parts[1][:_FORM_CHARS]}"'


def check_context(length: int, new_tokens: int, context: int, layout: Layout) -> None:
    """Refuses what the position embeddings cannot hold.

    Args:
        length: tokens of the prompt, those of its images included.
        new_tokens: tokens that the answer may have.
        context: the most that both may be together.
        layout: of the prompt's images.

    Raises:
        RequestError: "invalid", with the numbers.
    """
    if length + new_tokens > context:
        count = len(layout.expansions)
        images, cure = ("the image", "shorten one") if count == 1 else (f"{count} images", "send fewer images")
        raise RequestError(
            "invalid",
            "prompt" if count == 1 else "image",
            f"got {length} prompt tokens ({layout.tokens} of {images}) and max_new_tokens {new_tokens}, expected "
            f"{context} together; {cure}",
        )
