"""A model's chat template around a question: rendered for the very text, and taken off again.

Flow: question -> the processor's template -> `Chat` (what stands before, the question as the template has it, what
stands after); a whole prompt in the template's form -> the question inside it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from llava_server.ask.checking import invalid
from llava_server.ask.settings import SettingsError

_PROBES = ("1a2", "3b4")
"""Two questions without a letter in common at either end, so that what their prompts share is the template's own."""


@dataclass(frozen=True)
class Chat:
    """One rendered prompt: the template's own text before and after, and the question as it stands between."""

    before: str
    question: str
    after: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.before + self.question + self.after


class ChatTemplate:
    """The chat template of one processor, with one question and, before it, so many pictures.

    Args:
        processor: has a `chat_template`.
        image_text: the token that stands for a picture.
        pictures: how many.

    Raises:
        SettingsError: when the template cannot hold one picture and one question.
    """

    def __init__(self, processor: Any, image_text: str, pictures: int = 1) -> None:
        self._processor = processor
        self._image_text = image_text
        self._pictures = pictures
        self._others: dict[int, ChatTemplate] = {pictures: self}
        self._bos: str = processor.tokenizer.bos_token or ""
        try:
            first, second = map(self._apply, _PROBES)
        except Exception as error:
            raise SettingsError(
                f"chat template: got {type(error).__name__}: {error}, expected one that takes an image and a text"
            ) from error
        if first == second or [text.count(image_text) for text in (first, second)] != [pictures] * 2:
            times = "once each" if pictures == 1 else f"{pictures} times"
            raise SettingsError(f"chat template: got {first!r:.120}, expected the text and {image_text} {times}")

    def of(self, pictures: int) -> ChatTemplate:
        """The same template with another number of pictures.

        Raises:
            RequestError: "invalid", when the template cannot hold so many.
        """
        if pictures not in self._others:
            try:
                self._others[pictures] = ChatTemplate(self._processor, self._image_text, pictures)
            except SettingsError as error:
                allowed = f"as many images as the model's chat template takes ({error}); send fewer"
                raise invalid("image", pictures, allowed) from error
        return self._others[pictures]

    def around(self) -> tuple[str, str]:
        """The template's own text before and after a question, as of now: templates may write the date."""
        first, second = map(self._apply, _PROBES)
        return _shared(first, second), _shared(first[::-1], second[::-1])[::-1]

    def render(self, question: str, around: tuple[str, str]) -> Chat:
        """The prompt for a question, exactly as the processor renders it; templates may trim or rewrite the question.

        Args:
            question: the user's text.
            around: what `around` gave just now.

        Raises:
            RequestError: "invalid" for a question that the template refuses, or whose place in the prompt is not clear.
        """
        before, after = around
        try:
            whole = self._apply(question)
        except Exception as error:
            raise invalid("prompt", question, f"text that the model's chat template takes ({error})") from error
        if len(whole) < len(before) + len(after) or not (whole.startswith(before) and whole.endswith(after)):
            allowed = 'text that the chat template leaves in its place; send the whole prompt with template: "raw"'
            raise invalid("prompt", question, allowed)
        return Chat(before, whole[len(before) : len(whole) - len(after)], after)

    def question_in(self, text: str, around: tuple[str, str]) -> str | None:
        """The question of a text that is a whole prompt in this template's form, or None for any other text.

        White space at either end and a beginning-of-sequence token, which the tokenizer adds by itself, are nobody's.
        """
        whole = text.strip().removeprefix(self._bos).strip()
        head, tail = around[0].removeprefix(self._bos).lstrip(), around[1].rstrip()
        if len(whole) < len(head) + len(tail) or not (whole.startswith(head) and whole.endswith(tail)):
            return None
        question = whole[len(head) : len(whole) - len(tail)]
        same = self.render(question, around).text.removeprefix(self._bos).strip() == whole
        return question if same else None

    def _apply(self, question: str) -> str:
        content = [*({"type": "image"} for _ in range(self._pictures)), {"type": "text", "text": question}]
        rendered: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return rendered


def _shared(first: str, second: str) -> str:
    """What two texts have in common at their beginning."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(char for char, _ in same)
