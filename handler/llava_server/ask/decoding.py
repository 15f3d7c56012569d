"""How the tokens of an answer come about: greedy, sampled, by beam search, or given. What differs by it is asked here.

Flow: `DecodingOptions` of a request -> `decoding_of` -> one `Decoding` in its plan -> options that do not go together,
streaming, sizes, batches, seeds, the choice of a token, the decoder that runs, the words of the record.

A new kind is a subclass here and a case in `decoding_of`; what it runs with is a method of `Decoders`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from llava_server.ask.checking import invalid

DEFAULT_MAX_NEW_TOKENS = 64
_SEEDS = 2**63


@dataclass(frozen=True)
class DecodingOptions:
    """The options that say how an answer is written; `sampling` is what temperature, top_p and top_k amount to."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    sampling: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    num_return_sequences: int = 1


@dataclass(frozen=True)
class Chosen:
    """A finished answer, as far as its record tells how it was chosen.

    Args:
        seed: of its random numbers; None without any.
        sequence: its number among the sequences of its request.
        logprobs: natural log probability of each token, from raw logits.
        plain: the logits alone decided, and nothing of the checkpoint's generation_config.json.
        recorded: what the record of a given answer says of it, when there is one.
    """

    seed: int | None
    sequence: int
    logprobs: tuple[float, ...]
    plain: bool
    recorded: Mapping[str, Any] | None = None


class Decoders(Protocol):
    """What an answer is made with: prepared requests (`BatchItem`s) in, finished batches (`BatchRun`s) out."""

    def search(self, item: Any) -> Sequence[Any]:
        """One prepared request to one per sequence that a beam search found, best first, each with its answer."""

    def write(self, items: Sequence[Any]) -> Any:
        """Decodes token by token."""

    def replay(self, items: Sequence[Any]) -> Any:
        """Runs answers that are known in one forward."""


class Decoding:
    """A way in which the tokens of an answer come about."""

    name: ClassVar[str]
    batch: ClassVar[str] = ""
    """Requests of one such word run together; those without one run alone."""
    draws: ClassVar[bool] = False
    """Whether random numbers take part."""
    replayed: ClassVar[bool] = False
    """Whether one forward over the finished answer makes its rows and scores."""
    searches: ClassVar[bool] = False
    """Whether whole answers are compared, so that a length penalty means something."""

    def check(self, options: DecodingOptions, given: Mapping[str, Any]) -> None:
        """Refuses options that do not go with this way of decoding.

        Args:
            options: the request's, each checked by itself.
            given: as they were sent, to name them.

        Raises:
            RequestError: "invalid", naming the option.
        """
        count, beams = options.num_return_sequences, options.num_beams
        if "length_penalty" in given and not self.searches:
            raise invalid("options.length_penalty", given["length_penalty"], "it with num_beams of 2 or more; add them")
        if count > beams and not self.draws:
            raise invalid(
                "options.num_return_sequences",
                count,
                f"1 to num_beams ({beams}) without sampling; raise num_beams, or add a temperature",
            )

    def no_stream(self, options: DecodingOptions) -> str:
        """What `stream` must be instead of true, and why; "" where an answer can be shown as it is written."""
        return ""

    def held(self, options: DecodingOptions) -> int:
        """Sequences that the device holds at one time."""
        return 1

    def seeds(self, options: DecodingOptions) -> tuple[int | None, ...]:
        """The seed of each sequence that is begun; None without random numbers."""
        return (None,)

    def choose(self, scores: Any, generator: Any) -> Any:
        """The next token.

        Args:
            scores: [1, vocab] float32 tensor, the logits as the request's processors leave them.
            generator: the request's random numbers; None where none are drawn.

        Returns:
            its id, [1] int64.

        Raises:
            TypeError: tokens are not chosen one by one here.
        """
        raise TypeError(f"{self.name}: got a token to choose, expected none; search or replay it")

    def found(self, items: tuple[Any, ...], decoders: Decoders) -> tuple[Any, ...]:
        """The sequences of one request that are run to keep their queries."""
        return items

    def run(self, items: Sequence[Any], decoders: Decoders) -> Any:
        """The finished batch of some requests' sequences, with the queries of their rows."""
        return decoders.replay(items) if self.replayed else decoders.write(items)

    def recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        """How the answer was chosen, in the words of the record."""
        facts = {"max_new_tokens": options.max_new_tokens, **self._recorded(options, chosen)}
        if options.num_return_sequences > 1:
            facts |= {"sequence": chosen.sequence, "sequences": options.num_return_sequences}
        return facts

    def _recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        """What the record says of this way alone."""
        return {"greedy": False}


class Greedy(Decoding):
    """The most probable token at each step."""

    name = "greedy"
    batch = "written"

    def choose(self, scores: Any, generator: Any) -> Any:
        return scores.argmax(-1)

    def _recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        return {"greedy": True}


class Sampled(Decoding):
    """One draw at each step; several sequences are drawn side by side, each with a seed of its own."""

    name = "sampled"
    batch = "written"
    draws = True

    def check(self, options: DecodingOptions, given: Mapping[str, Any]) -> None:
        if options.num_beams > 1:
            raise invalid("options.num_beams", options.num_beams, "1 together with sampling; leave one of them out")
        super().check(options, given)

    def no_stream(self, options: DecodingOptions) -> str:
        return _ONE_ONLY if options.num_return_sequences > 1 else ""

    def held(self, options: DecodingOptions) -> int:
        return options.num_return_sequences

    def seeds(self, options: DecodingOptions) -> tuple[int | None, ...]:
        first = options.seed if options.seed is not None else secrets.randbits(53)
        return tuple((first + i) % _SEEDS for i in range(options.num_return_sequences))

    def choose(self, scores: Any, generator: Any) -> Any:
        # Logits that are not finite make a row of nan, which nothing can be drawn from (on a GPU the process would be
        # lost); any token will do, because the record is refused.
        weights = scores.softmax(-1).nan_to_num(1.0)
        return weights.multinomial(num_samples=1, generator=generator).squeeze(1)

    def _recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        facts = {"greedy": False, "temperature": options.temperature, "seed": chosen.seed}
        return facts | {name: value for name in ("top_p", "top_k") if (value := getattr(options, name)) is not None}


class Beams(Decoding):
    """transformers' own beam search; what it found is replayed for its rows."""

    name = "beams"
    replayed = True
    searches = True

    def no_stream(self, options: DecodingOptions) -> str:
        return _ONE_ONLY

    def held(self, options: DecodingOptions) -> int:
        return options.num_beams

    def found(self, items: tuple[Any, ...], decoders: Decoders) -> tuple[Any, ...]:
        return tuple(sequence for item in items for sequence in decoders.search(item))

    def _recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "greedy": False,
            "num_beams": options.num_beams,
            "length_penalty": options.length_penalty,
        }
        if chosen.plain:  # transformers' score of a finished beam
            facts["score"] = sum(chosen.logprobs) / len(chosen.logprobs) ** options.length_penalty
        return facts


class Given(Decoding):
    """An answer that exists; its record tells how it was chosen."""

    name = "given"
    batch = "given"
    replayed = True

    def no_stream(self, options: DecodingOptions) -> str:
        return "false with a given answer, which is known already; leave it out"

    def recorded(self, options: DecodingOptions, chosen: Chosen) -> dict[str, Any]:
        return dict(chosen.recorded or {})


_ONE_ONLY = "false with beams or several sequences; leave one of them out"
GREEDY, SAMPLED, BEAMS, GIVEN = Greedy(), Sampled(), Beams(), Given()


def decoding_of(options: DecodingOptions, *, given: bool = False) -> Decoding:
    """The way in which a request's answer comes about.

    Args:
        options: the request's.
        given: the answer is a record's.
    """
    if given:
        return GIVEN
    if options.sampling:
        return SAMPLED
    return BEAMS if options.num_beams > 1 else GREEDY


def samples(given: Mapping[str, Any]) -> bool:
    """Whether these sampling options ask for sampling; temperature 0 is the common way to ask for greedy decoding."""
    return given.get("temperature", 1.0) > 0 and bool(given.keys() & {"temperature", "top_p", "top_k"})
