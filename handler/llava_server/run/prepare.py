"""A request becomes items that can run: plan, prompt, size check, picture.

Flow: `GenerateRequest` -> `check`: plan against the model -> prompt ids -> estimate -> `Checked` -> `finish`: pixels
and geometry -> `Prepared`; or a `RequestError` that names the field. What is cheap comes first, so that requests can
be sorted into batches while their pictures are still being decoded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from llava_doors.door import METHODS, DoorError
from llava_server.ask.checking import invalid
from llava_server.ask.plan import Plan, make_plan
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.fit import estimate as sizes
from llava_server.fit.room import Room
from llava_server.load.choosing import effective
from llava_server.load.loading import LoadedModel
from llava_server.load.memory import is_out_of_memory
from llava_server.read.images import prepare_image
from llava_server.read.prompt import EncodedPrompt, PromptEncoder, check_context
from llava_server.run.batch import BatchItem
from llava_server.run.sampling import seed_of
from llava_wire.errors import RequestError
from llava_wire.schema import Facts, Image

Kind = Literal["decode", "replay", "beams"]


@dataclass(frozen=True)
class Checked:
    """One request that may run, its picture not opened yet.

    Args:
        request: what was asked.
        kind: "decode" token by token, "replay" a given answer, or search with "beams"; a batch is of one kind.
        plan, prompt: what is asked for, resolved.
        extent: how far it reaches alone.
        needed: bytes of all of its sequences together, alone.
        check_ms: time spent so far.
        others: the other questions that methods of its views ask.
    """

    request: GenerateRequest
    kind: Kind
    plan: Plan
    prompt: EncodedPrompt
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
        image_id = loaded.model.config.image_token_id
        facts, embedded = loaded.facts, loaded.model.get_input_embeddings().weight.shape[0]
        self._encoder = PromptEncoder(
            loaded.processor, image_id, facts.image_tokens, embedded, lead_tokens=facts.lead_tokens
        )
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
        plan = make_plan(options, loaded.facts, settings)
        limit = settings.limits.max_prompt_chars
        if len(request.prompt) > limit:
            raise RequestError(
                "too_large", "prompt", f"got {len(request.prompt)} characters, allowed {limit}; shorten it"
            )
        prompt = self._encoder.encode(request.prompt, options.template, literal=given is not None)
        if given is not None and given.prompt.ids != prompt.ids:
            raise invalid(
                "record.prompt.ids",
                len(given.prompt.ids),
                f"the {len(prompt.ids)} ids that this model makes of its question; ask this model again",
                "ids that differ, as many as",
            )
        if options.rows == "prompt" and not prompt.question:
            raise invalid("options.rows", "prompt", '"answer" or "both" for a prompt without text of its own')
        check_context(len(prompt.ids), options.max_new_tokens, loaded.facts.context)
        others = self._others(plan)
        extent = sizes.Extent.of(plan, len(prompt.ids), len(prompt.question), given=given is not None)
        needed = sizes.sized(plan, loaded.facts, extent)
        sizes.check_response(needed, plan, settings.limits)
        room.check(needed, plan)
        kind: Kind = "replay" if given is not None else "beams" if options.num_beams > 1 else "decode"
        return Checked(request, kind, plan, prompt, extent, needed, (time.perf_counter() - started) * 1000, others)

    def finish(self, checked: Checked) -> Prepared:
        """Opens the picture and makes the items; spends its time outside Python's lock, so threads run side by side.

        Raises:
            RequestError: when the picture cannot be used.
        """
        started = time.perf_counter()
        loaded, request, given = self._loaded, checked.request, checked.request.given
        try:
            image = prepare_image(
                request.image, loaded.processor.image_processor, loaded.preprocess, self._settings.limits
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise RequestError(
                "does_not_fit",
                "image",
                f"got {len(request.image)} bytes of picture that do not fit the memory, "
                "allowed fewer pixels; scale it down",
            ) from None
        if given is not None and replace(image.facts, sha256=given.image.sha256) != given.image:
            raise invalid(
                "image",
                _pixels(image.facts),
                f"the picture of the record ({_pixels(given.image)}); send the file that was asked about",
                "a picture with other pixels,",
            )
        seed = seed_of(request.options)
        first = BatchItem(image, checked.prompt, checked.plan, checked.deadline_s, seed, others=checked.others)
        items = _items(checked.kind, first, given)
        return Prepared(checked, items, checked.check_ms + (time.perf_counter() - started) * 1000)

    def _others(self, plan: Plan) -> dict[str, EncodedPrompt]:
        """The other questions that methods ask, as the model reads them; refuses methods that it cannot serve."""
        facts = self._loaded.facts
        if plan.forwards and self._loaded.length_dependent:
            named = next(view.method for view in plan.views if replace(plan, views=(view,)).forwards)
            raise invalid(
                "options.method",
                named,
                "methods of attention rows alone: this model's keys change with the length of the text, so that one "
                "forward over an answer is not what decoding it was",
            )
        asked = dict.fromkeys(question for view in plan.views for question in view.needs.questions)
        others = {question: self._encoder.encode(question, plan.options.template) for question in asked}
        for prompt in others.values():
            check_context(len(prompt.ids), 1, facts.context)
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


def _pixels(image: Image) -> str:
    return f"{image.width_px} x {image.height_px} px, sha256 {image.pixels_sha256[:12]}"


def _items(kind: Kind, first: BatchItem, given: Facts | None) -> tuple[BatchItem, ...]:
    options = first.plan.options
    if given is not None:
        answer = tuple(token.id for token in given.tokens)
        # The same picture in another file format keeps the digest of the file that was asked about first.
        image = replace(first.image, facts=given.image)
        return (replace(first, image=image, answer=answer, finish_reason=given.finish_reason, sampling=given.sampling),)
    if kind == "beams":
        return (first,)
    seeds = [None] if first.seed is None else [(first.seed + i) % 2**63 for i in range(options.num_return_sequences)]
    return tuple(replace(first, seed=seed, sequence=i) for i, seed in enumerate(seeds))
