"""A request becomes items that can run: plan, prompt, size check, picture.

Flow: `GenerateRequest` -> `check`: plan against the model -> layout from the pictures' sizes -> prompt ids -> estimate
-> `Checked` -> `finish`: pixels and geometry -> `Prepared`; or a `RequestError` that names the field. What is cheap
comes first, so that requests can be sorted into batches while their pictures are still being decoded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llava_doors.door import METHODS, DoorError
from llava_doors.family import Layout
from llava_server.ask.checking import invalid
from llava_server.ask.methods import load_method, named_by
from llava_server.ask.plan import Plan, make_plan
from llava_server.ask.request import GenerateRequest, question_text
from llava_server.ask.settings import Limits, ModelSettings, SettingsError
from llava_server.fit import estimate as sizes
from llava_server.fit.room import Room
from llava_server.load.choosing import effective
from llava_server.load.loading import LoadedModel
from llava_server.load.memory import is_out_of_memory
from llava_server.read.images import OpenedImage, PreparedImages, open_image
from llava_server.read.picture_file import picture_size
from llava_server.read.prompt import EncodedPrompt, PromptEncoder, check_context
from llava_server.run.batch import BatchItem
from llava_wire.errors import RequestError
from llava_wire.schema import Facts, Image
from llava_wire.system.image_fields import image_field

_ANY_SIZE_PX = (640, 480)
"""Stands for a picture of a family whose pictures all take the same tokens."""


@dataclass(frozen=True)
class Checked:
    """One request that may run, its pictures not opened yet.

    Args:
        request: what was asked.
        plan, prompt: what is asked for, resolved.
        layout: what the pictures are in the prompt; where on them its grids lie is known when they are opened.
        extent: how far it reaches alone.
        needed: bytes of all of its sequences together, alone.
        check_ms: time spent so far.
        others: the other questions that methods of its views ask.
    """

    request: GenerateRequest
    plan: Plan
    prompt: EncodedPrompt
    layout: Layout
    extent: sizes.Extent
    needed: sizes.Estimate
    check_ms: float
    others: Mapping[str, EncodedPrompt] = field(default_factory=dict)

    @property
    def deadline_s(self) -> float:
        """The `time.monotonic()` at which it must stop."""
        return self.request.arrived_s + self.plan.deadline_ms / 1000


@dataclass(frozen=True)
class Prepared:
    """One request, ready to run.

    Args:
        checked: the request with its plan.
        items: one per sequence that is returned; a beam search starts from one.
        preprocess_ms: time spent on picture and prompt.
    """

    checked: Checked
    items: tuple[BatchItem, ...]
    preprocess_ms: float


class Preparer:
    """Prepares requests for one loaded model; usable from several threads.

    Raises:
        SettingsError: a package declares a method that cannot be used.
    """

    def __init__(self, loaded: LoadedModel, settings: ModelSettings) -> None:
        try:
            METHODS.known()
        except DoorError as error:
            raise SettingsError(str(error)) from error
        self._loaded = loaded
        self._settings = settings
        family, embedded = loaded.family, loaded.model.get_input_embeddings().weight.shape[0]
        placeholder = family.placeholder(loaded.processor.tokenizer)
        self._encoder = PromptEncoder(loaded.processor, family.image_token_id, embedded, placeholder)
        self._vocabulary = loaded.model.get_output_embeddings().weight.shape[0]

    def check(self, request: GenerateRequest, room: Room) -> Checked:
        """Everything but the picture.

        Args:
            request: what was asked.
            room: the memory that is there now.

        Raises:
            RequestError: when it cannot run.
        """
        started = time.perf_counter()
        loaded, settings, given = self._loaded, self._settings, request.given
        options = effective(request.options, loaded.choosing)
        if given is not None:
            self._check_given(given)
        plan = make_plan(options, loaded.facts, settings, given=given is not None)
        limit = settings.limits.max_prompt_chars
        if len(request.prompt) > limit:
            raise RequestError(
                "too_large", "prompt", f"got {len(request.prompt)} characters, expected {limit}; shorten it"
            )
        layout = self._layout(request)
        prompt = self._encoder.encode(request.prompt, options.template, layout, literal=given is not None)
        if given is not None and given.prompt.ids != prompt.ids:
            raise invalid(
                "record.prompt.ids",
                len(given.prompt.ids),
                f"the {len(prompt.ids)} ids that this model makes of its question; ask this model again",
                "ids that differ, as many as",
            )
        if options.rows == "prompt" and not prompt.question:
            raise invalid("options.rows", "prompt", '"answer" or "both" for a prompt without text of its own')
        check_context(len(prompt.ids), options.max_new_tokens, loaded.facts.context, layout)
        for view in plan.views:
            with named_by(view.field):
                load_method(view.method).check(view, loaded.processor.tokenizer)
        others = self._others(plan, layout)
        picture_bytes = loaded.family.picture_bytes(layout, loaded.model.dtype)
        extent = sizes.Extent.of(plan, len(prompt.ids), layout, picture_bytes, len(prompt.question))
        needed = sizes.sized(plan, loaded.facts, extent)
        sizes.check_response(needed, plan, settings.limits)
        sizes.check_passes(needed, settings.limits)
        room.check(needed, plan)
        spent_ms = (time.perf_counter() - started) * 1000
        return Checked(request, plan, prompt, layout, extent, needed, spent_ms, others)

    def finish(self, checked: Checked) -> Prepared:
        """Opens the pictures and makes the items; spends its time outside Python's lock, so threads run side by side.

        Raises:
            RequestError: when a picture cannot be used.
        """
        started = time.perf_counter()
        request, given = checked.request, checked.request.given
        images = self._images(request, checked.layout)
        if given is not None:
            for i, (found, asked) in enumerate(zip(images.facts, given.images, strict=True)):
                if replace(found, sha256=asked.sha256) != asked:
                    raise invalid(
                        image_field(i),
                        _pixels(found),
                        f"the image of the record ({_pixels(asked)}); send the file that was asked about",
                        "an image with other pixels,",
                    )
        first = BatchItem(images, checked.prompt, checked.plan, checked.deadline_s, others=checked.others)
        items = _items(first, given)
        return Prepared(checked, items, checked.check_ms + (time.perf_counter() - started) * 1000)

    def _layout(self, request: GenerateRequest) -> Layout:
        """What the pictures are in the prompt: from the sizes that their files state, where these matter."""
        family, count = self._loaded.family, len(request.images)
        most = self._settings.limits.max_images if family.several else 1
        if count > most:
            allowed = "one" if most == 1 else f"1 to {most}"
            raise RequestError(
                "invalid",
                image_field(most),
                f"got {count} images, expected {allowed}, as {self._settings.name} takes; leave the others out",
            )
        if family.one_size and count == 1:
            return self._loaded.layout([_ANY_SIZE_PX])
        limits = self._settings.limits
        found_bytes = sum(map(len, request.images))
        if count > 1 and found_bytes > limits.max_image_bytes:
            raise RequestError(
                "too_large",
                "image",
                f"got {found_bytes} bytes in {count} images, expected {limits.max_image_bytes} in all; send smaller "
                "files",
            )
        sizes_px = [_named(i, picture_size, data, limits) for i, data in enumerate(request.images)]
        pixels = sum(width * height for width, height in sizes_px)
        if count > 1 and pixels > limits.max_image_pixels:
            raise RequestError(
                "too_large",
                "image",
                f"got {pixels} pixels in {count} images, expected {limits.max_image_pixels} in all; scale them down",
            )
        return self._loaded.layout([_ANY_SIZE_PX] * count if family.one_size else sizes_px)

    def _images(self, request: GenerateRequest, stated: Layout) -> PreparedImages:
        """Opens all pictures of a request.

        Raises:
            RequestError: when one cannot be used, or is of another size than its file stated.
        """
        limits, loaded = self._settings.limits, self._loaded
        opened: list[OpenedImage] = []
        try:
            for i, data in enumerate(request.images):
                opened.append(_named(i, open_image, data, limits))
            layout = loaded.layout([one.size_px for one in opened])
            if not layout.same_tokens(stated):
                found = [one.size_px for one in opened]
                raise invalid("image", found, "the sizes that the files state; save them again", "images of")
            inputs = loaded.family.inputs(loaded.processor, [one.pixels for one in opened])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise RequestError(
                "does_not_fit",
                image_field(len(opened) % len(request.images)),
                f"got {sum(map(len, request.images))} bytes of image that do not fit the memory, "
                "expected fewer pixels; scale it down",
            ) from None
        notes = tuple(
            replace(note, field=image_field(i)) if i else note for i, one in enumerate(opened) for note in one.notes
        )
        return PreparedImages(inputs, layout, tuple(one.facts for one in opened), notes)

    def _others(self, plan: Plan, layout: Layout) -> dict[str, EncodedPrompt]:
        """The other questions that methods ask, as the model reads them; refuses methods that it cannot serve."""
        facts = self._loaded.facts
        if plan.forwards and self._loaded.length_dependent:
            named = next(view for view in plan.views if replace(plan, views=(view,)).forwards)
            raise invalid(
                f"{named.field}.method",
                named.method,
                "methods of attention rows alone: this model's keys change with the length of the text, so that one "
                "forward over an answer is not what decoding it was",
            )
        asked = {question: view for view in reversed(plan.views) for question in view.needs.questions}
        others = {}
        for question, view in asked.items():
            try:
                others[question] = self._encoder.encode(
                    question_text(question, "prompt"), plan.options.template, layout
                )
                check_context(len(others[question].ids), 1, facts.context, layout)
            except RequestError as error:
                [name, *_] = [name for name, value in view.parameters.items() if value == question] or ["prompt"]
                raise RequestError(error.code, f"{view.field}.parameters.{name}", error.message) from error
        return others

    def _check_given(self, given: Facts) -> None:
        """A record's answer must be this model's: another model's ids mean other words."""
        served = (self._settings.name, self._settings.revision)
        if (given.model.name, given.model.revision) != served:
            raise invalid(
                "record.model",
                f"{given.model.name} @ {given.model.revision}",
                f"{served[0]} @ {served[1]}, which is served here; ask the record's own model",
            )
        limit = self._settings.limits.max_new_tokens
        if len(given.tokens) > limit:
            raise invalid("record.tokens", len(given.tokens), f"1 to {limit} tokens for {served[0]}")
        for i, token in enumerate(given.tokens):
            if not 0 <= token.id < self._vocabulary:
                raise invalid(f"record.tokens[{i}].id", token.id, f"0 to {self._vocabulary - 1}; the file is damaged")


def late(checked: Checked) -> RequestError:
    """The refusal of a request whose time passed before it began."""
    return RequestError(
        "deadline",
        "options.deadline_ms",
        f"got {checked.plan.deadline_ms} ms, all spent waiting; raise it or try when fewer requests wait",
    )


def _named(image: int, read: Any, data: bytes, limits: Limits) -> Any:
    """`read` of one picture; its refusal names which of the request's it is."""
    try:
        return read(data, limits)
    except RequestError as error:
        if image:
            raise RequestError(error.code, image_field(image), error.message) from error
        raise


def _pixels(image: Image) -> str:
    return f"{image.width_px} x {image.height_px} px, sha256 {image.pixels_sha256[:12]}"


def _items(first: BatchItem, given: Facts | None) -> tuple[BatchItem, ...]:
    if given is not None:
        answer = tuple(token.id for token in given.tokens)
        # The same picture in another file format keeps the digest of the file that was asked about first.
        images = replace(first.images, facts=given.images)
        first = replace(first, images=images, answer=answer)
        return (replace(first, finish_reason=given.finish_reason, sampling=given.sampling),)
    seeds = first.plan.decoding.seeds(first.plan.options)
    return tuple(replace(first, seed=seed, sequence=i) for i, seed in enumerate(seeds))
