"""The plain facts of a record: tokens, queries, prompt, images, grids, model, views.

Flow: these dataclasses <-> record.json (`llava_wire.plain`); `untrusted.checks` holds their values against each other.
Arrays live in `llava_wire.view`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from llava_wire.grids import Grid, Run
from llava_wire.quantity import ATTENTION, Quantity

FORMAT = "llava-gaze-record"
VERSION = 2
"""What is written; version 1 is read for ever (`untrusted.earlier`)."""
SHARE_NAMES = ("bos", "image", "prompt", "answer")
SEPARATORS = "separators"
"""The part of the prompt's share that lies on tokens of images that are in no grid."""
IMAGE_CHECK = "image"
"""The check of an answer that says which of its tokens need the image (`Token.without_image`)."""
TOKEN_FIGURES = ("without_image",)
"""Numbers of a token that checks find; absent where they found none."""
SAMPLING_NAMES = (
    "max_new_tokens", "greedy", "temperature", "seed", "top_p", "top_k", "num_beams", "length_penalty", "score",
    "sequence", "sequences",
)  # fmt: skip
"""What `Facts.sampling` says, each a number; `greedy` is true or false."""


@dataclass(frozen=True)
class Candidate:
    """One of the most probable tokens at a step; `logprob` is the natural log of its probability."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Token:
    """One token of the answer.

    Args:
        id: the vocabulary id.
        piece: the vocabulary's own string, such as "Ġred" or "▁red".
        text: what this token adds to the answer's text; empty for special tokens and inside a character.
        logprob: natural log of its probability from the raw logits, before temperature or truncation.
        top: the five most probable tokens at this step, most probable first.
        special: end of sequence and the like; viewers fold it away.
        without_image: the same log probability with every image token replaced by their mean and the same words
            before; None where that was not tested.
    """

    id: int
    piece: str
    text: str
    logprob: float
    top: tuple[Candidate, ...] = ()
    special: bool = False
    without_image: float | None = None


@dataclass(frozen=True)
class Query:
    """One captured row of attention.

    Args:
        kind: "answer" (the row that predicted an answer token) or "prompt" (a text token of the question, at prefill).
        token: index into the answer's tokens, or into the prompt's ids for kind "prompt".
        position: the position in the unpadded sequence whose query this row is.
        step: the forward step that computed it; 0 is the prefill.
    """

    kind: Literal["answer", "prompt"]
    token: int
    position: int
    step: int


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: who spoke ("user", "assistant") and what."""

    role: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """What the model read.

    Args:
        text: the user's question; of several turns the last one's.
        template: "chat" when the model's chat template was put around it, "raw" when it is the whole prompt.
        rendered: the whole prompt with one `<image>` per picture.
        ids: its token ids, the image token once per patch; `Facts.grids` says where the patches lie.
        pieces: the vocabulary's own string of each id.
        texts: what each id adds to the text, as `Token.text`; empty in records of earlier writers.
        system: the system prompt, where there was one.
        turns: the whole conversation where it had more than one turn, the question last; else empty.
        separators: where in `ids` the images' tokens lie that are in no grid (newlines, breaks, class tokens), as
            ascending runs; empty where there are none, and in records of earlier writers.
    """

    text: str
    template: Literal["chat", "raw"]
    rendered: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    texts: tuple[str, ...] = ()
    system: str = ""
    turns: tuple[Turn, ...] = ()
    separators: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Image:
    """A picture that was asked about: size in px after EXIF rotation, sha256 of the file and of its RGB pixels."""

    width_px: int
    height_px: int
    sha256: str
    pixels_sha256: str


@dataclass(frozen=True)
class Model:
    """Which model answered, and how it was run."""

    name: str
    source: str
    revision: str
    dtype: str
    attention: str
    device: str
    layers: int
    heads: int


@dataclass(frozen=True)
class MethodFacts:
    """How a view's maps were made: the method's name and the value of each of its parameters."""

    name: str = "attention"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewFacts:
    """What one view selected; its arrays are in the same order.

    Args:
        name: unique in the record.
        reduction: the name of one of `llava_wire.reduction.REDUCTIONS`.
        axes: names of the axes of `maps`, a part of (query, layer, head or layer_head) and patch.
        layers, heads: the 0-based selection, when it is a grid; both empty where the method tells none apart.
        pairs: the [layer, head] selection, when it is a list of pairs; then layers and heads are empty.
        head_set: the named head set it came from, or "".
        steps: the steps that a mean over steps averaged; empty when the query axis is kept.
        precision, encoding: how maps are stored; error_bound: the largest absolute error of a decoded value;
            block_error_bound: that of the sum of a block, where maps are stored in blocks, else None.
        method: how the maps were made; quantity: what their numbers are.
        parts: names of what a row's total splits into beside its map, the last axis of the view's `parts`; no names
            where it does not, and for shares, which always split alike.
    """

    name: str
    reduction: Literal["none", "heads", "layers_heads", "all"]
    axes: tuple[str, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    head_set: str
    steps: tuple[int, ...]
    precision: Literal["uint8", "float16", "float32", "blocks"]
    encoding: str
    error_bound: float
    method: MethodFacts = MethodFacts()
    quantity: Quantity = ATTENTION
    parts: tuple[str, ...] = ()
    block_error_bound: float | None = None


@dataclass(frozen=True)
class TextFacts:
    """What one view of text selected: the mean over all of its layers and heads, of tokens and not of patches.

    Args:
        name: unique among all views of the record.
        layers, heads, pairs, head_set, method, quantity: as in `ViewFacts`.
        columns: which tokens its columns are, as runs of ascending positions; the answer's follow the prompt's, and
            patches are not among them.
    """

    name: str
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    head_set: str
    method: MethodFacts
    quantity: Quantity
    columns: tuple[Run, ...]


@dataclass(frozen=True)
class Note:
    """Something about this run that a reader must know to read it rightly; shown wherever the record is.

    Args:
        code: what it is about, for programs, in lower case with dashes: "transparency".
        field: the part of the request or model that it concerns: "image", "prompt", "model", "options.steps".
        text: one sentence for people, with what was done and what to do about it.
    """

    code: str
    field: str
    text: str


@dataclass(frozen=True)
class Annotations:
    """What a client says of an answer; nothing that a server writes.

    Args:
        expected: the answer that was expected.
        rule: how the answer was compared with it, in a word or a sentence: "exact", "contains".
        right: whether the answer is right by this rule; None where nobody has judged it.
        tags: words to find the record by.
    """

    expected: str = ""
    rule: str = ""
    right: bool | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything in record.json except views.

    `checks` says what was tested about the model that ran and about this answer, each entry by its name with a
    "result"; `notes` says what is unusual about this run; `annotations` are the client's. They are left out of
    record.json when empty.
    """

    answer: str
    finish_reason: Literal["stop", "length", "deadline"]
    prompt: Prompt
    images: tuple[Image, ...]
    grids: tuple[Grid, ...]
    model: Model
    tokens: tuple[Token, ...]
    queries: tuple[Query, ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    annotations: Annotations | None = None

    @property
    def image(self) -> Image:
        """The only picture.

        Raises:
            ValueError: there are several; take `images`.
        """
        if len(self.images) != 1:
            raise ValueError(f"image: got a record of {len(self.images)} images, expected one; take facts.images")
        return self.images[0]
