"""A finished run as methods see it: values, hidden states, replays with gradients, further passes; all made lazily.

Flow: `BatchRun` + `BatchItem` + rows -> `Seen` -> a method's questions, each answered once for all views of a request.
The item runs again alone and without padding, so a batch it once shared changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from llava_doors.method import Held
from llava_server.attend.capture import QueryCapture
from llava_server.attend.seen import SeenRows
from llava_server.load.loading import LoadedModel
from llava_server.look.float32 import in_float32
from llava_server.look.pace import Pace
from llava_server.look.replay import Constants, RowReplay, replayed
from llava_server.look.some_patches import log_probs
from llava_server.run.batch import BatchItem, captured_positions, layout_of, pad
from llava_server.run.generate import embedded, prefill

_PROJECTIONS = ("o_proj", "out_proj", "dense", "wo")
"""What models call the projection of what the heads read."""


@dataclass
class Seen(SeenRows):
    """See `llava_doors.method.Seen`.

    Args:
        loaded: the model.
        asked: picture, prompt and views.
        answer: the answer's ids.
        kept: per layer [batch, kv head, padded key, head_dim], the cached values; empty where no view needs them.
        special: ids of tokens that are no words.
        pace: of the passes of its methods; None where nothing holds them.
    """

    loaded: LoadedModel = None  # type: ignore[assignment]
    asked: BatchItem = None  # type: ignore[assignment]
    answer: tuple[int, ...] = ()
    kept: tuple[torch.Tensor, ...] = ()
    special: frozenset[int] = frozenset()
    pace: Pace | None = None

    @property
    def tokenizer(self) -> Any:
        """See `llava_doors.method.Seen`."""
        return self.loaded.processor.tokenizer

    @property
    def ordinary(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        before = [False] * (len(self.asked.prompt.ids) - 1)
        return torch.tensor((before + [token not in self.special for token in self.answer])[: self.layout.length])

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """See `llava_doors.method.Seen`."""
        return tuple((grid.rows, grid.cols) for grid in self.asked.images.layout.grids)

    @property
    def model(self) -> Any:
        """See `llava_doors.method.Seen`."""
        return self.loaded.model

    @property
    def tokens(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        return torch.tensor((*self.asked.prompt.ids, *self.answer)[: self.layout.length])

    @property
    def targets(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        following = torch.tensor((*self.asked.prompt.ids, *self.answer))
        return following[self.layout.positions + 1].to(self.device)

    def values(self, layer: int) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        self.declared("values", self.needs.values or self.needs.gradients == "asked")
        return self._of_item(self.kept[layer])

    def output_weight(self, layer: int) -> torch.Tensor:
        """See `llava_doors.method.Seen`; found by running the projection where its weight is no plain matrix."""
        facts = self.loaded.facts
        projection = _projection(self.model, layer)
        weight = getattr(projection, "weight", None)
        inner = facts.heads * facts.head_dim
        if weight is None or weight.is_meta or not weight.is_floating_point() or weight.shape[-1] != inner:
            device = self.loaded.layer_devices[layer]
            one = projection(torch.eye(inner, device=device, dtype=self.model.dtype))
            bias = getattr(projection, "bias", None)
            rows = one if bias is None else one - bias.to(one.device)
        else:
            rows = weight.T
        return rows.unflatten(0, (facts.heads, facts.head_dim)).float()

    def hidden(self, layer: int) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        self.declared(f"hidden states of layer {layer}", layer in self.needs.hidden)
        wanted = {one for view in self.asked.plan.views for one in view.needs.hidden}
        return self.once(("hidden",), lambda: self._hidden(wanted))[layer]

    def embeddings(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        return self._embeddings.clone()

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        count, is_differentiated = len(embeddings), embeddings.requires_grad
        whole = self.needs.gradients == "whole"
        self.declared(f"{count} passes side by side", count <= self.needs.passes or whole)
        self.declared("gradients through a pass", not is_differentiated or whole or self.needs.gradients == "passes")
        self.spend(count)
        given = embeddings if is_differentiated else embeddings.to(self.model.dtype)
        with in_float32() if is_differentiated else nullcontext():
            logits: torch.Tensor = self.model(
                inputs_embeds=given.float() if is_differentiated else given,
                position_ids=self._place_ids.expand(*self._place_ids.shape[:-2], count, -1),
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.int64, device=embeddings.device),
                use_cache=False,
                logits_to_keep=self.layout.positions.to(self.loaded.device),
            ).logits
        return logits.to(self.device).float()

    def spend(self, passes: int) -> None:
        """See `llava_doors.method.Seen`."""
        if self.pace is not None:
            self.pace.before(passes)

    def log_probs(self, keep: torch.Tensor) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""
        self.declared("passes", self.needs.passes > 0)
        return log_probs(self, keep, mixed=True)

    def replay(self, reach: str = "asked", hold: Collection[Held] = ()) -> RowReplay:
        """See `llava_doors.method.Seen`."""
        self.declared(f"a replay of the {reach} rows", self.needs.gradients == reach)
        held = frozenset(hold)
        return self.once(("replay", reach, held), lambda: self._replay(reach == "whole", held))

    def whole_answer(self) -> Seen:
        """See `llava_doors.method.Seen`."""
        self.declared("the rows of the whole answer", self.needs.rows in ("answer", "every"))
        first = len(self.asked.prompt.ids) - 1
        positions = torch.arange(first, first + len(self.answer))
        if torch.equal(positions, self.layout.positions):
            return self

        def make() -> Seen:
            layout = replace(self.layout, positions=positions)
            return replace(self, layout=layout, _sights={}, _groups={}, _made={})

        return self.once(("whole answer",), make).declaring(self.needs)  # type: ignore[return-value]

    def other(self, question: str) -> Seen:
        """See `llava_doors.method.Seen`."""
        self.declared(f"the question {question!r:.80}", question in self.needs.questions)
        return self.once(("question", question), lambda: self._other(question)).declaring(self.needs)  # type: ignore[return-value]

    @property
    def _embeddings(self) -> torch.Tensor:
        return self._entered[0]

    @property
    def _place_ids(self) -> torch.Tensor:
        """[1, position], or [axes, 1, position] where a position has several axes."""
        return self._entered[1]

    @property
    def _entered(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What goes into the first layer, [position, width], and `_place_ids`."""

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            item = replace(self.asked, answer=self.answer)
            with torch.no_grad():
                batch = pad([item], self.loaded.family, self.loaded.pad_id, self.loaded.device, self.model.dtype)
                length = self.layout.length
                return embedded(self.loaded, batch)[0, :length], batch.position_ids[..., :length]

        return self.once(("embeddings",), make)

    def _hidden(self, layers: Collection[int]) -> dict[int, torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad(), _entering(self.model, found, layers):
            self.model(
                inputs_embeds=self._embeddings[None],
                position_ids=self._place_ids,
                attention_mask=torch.ones((1, self.layout.length), dtype=torch.int64, device=self.loaded.device),
                use_cache=False,
                logits_to_keep=0 if self.loaded.facts.layers + 1 in layers else 1,
            )
        return found

    def _replay(self, is_whole: bool, hold: frozenset[Held]) -> RowReplay:
        if is_whole:
            every = torch.arange(self.layout.length)
            return replayed(self.model, self._embeddings, every, self._place_ids, None, hold)
        positions = self.layout.positions

        def constants(layer: int) -> Constants:
            keys, values = self.keys(layer).float(), self.values(layer).float()
            sight = self.sight(layer)
            if sight is None:
                sight = (torch.arange(self.layout.keys) <= positions[:, None]).to(keys.device)
            return Constants(keys, values, sight)

        rows = self._embeddings[positions.to(self._embeddings.device)]
        places = self._place_ids[..., positions.to(self._place_ids.device)]
        return replayed(self.model, rows, positions, places, constants, hold)

    def _other(self, question: str) -> Seen:
        prompt, loaded = self.asked.others[question], self.loaded
        options = replace(self.asked.plan.options, rows="answer")
        item = replace(self.asked, prompt=prompt, answer=(), plan=replace(self.asked.plan, options=options))
        with torch.no_grad():
            batch = pad([item], loaded.family, loaded.pad_id, loaded.device, loaded.model.dtype)
            capture = QueryCapture(captured_positions([item], batch), batch.length, item.plan.captured)
            logits, cache = prefill(loaded, batch, capture)
        bos = loaded.processor.tokenizer.bos_token_id
        return Seen(
            capture,
            [layer.keys for layer in cache.layers],
            0,
            layout_of(item, 0, [len(prompt.ids) - 1], bos),
            self.device,
            loaded=loaded,
            asked=item,
            answer=(int(logits[0, -1].argmax()),),
            kept=tuple(layer.values for layer in cache.layers),
            special=self.special,
        )


def _projection(model: Any, layer: int) -> Any:
    """The module that writes what the heads of a layer read.

    Raises:
        RuntimeError: none that is known.
    """
    block = model.get_decoder().layers[layer]
    for module in block.modules():
        if module is not block and hasattr(module, "layer_idx"):
            for name in _PROJECTIONS:
                if (found := getattr(module, name, None)) is not None:
                    return found
    raise RuntimeError(
        f"layer {layer}: got an attention without an output projection that is known, expected one of {_PROJECTIONS}"
    )


@contextmanager
def _entering(model: Any, found: dict[int, torch.Tensor], layers: Collection[int]) -> Iterator[None]:
    """Keeps what goes into some layers of the next forward, leaves the last or enters the unembedding, in `found`."""

    def keep(number: int) -> Any:
        def hook(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> None:
            found[number] = (args[0] if args else options["hidden_states"])[0]

        return hook

    def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
        found[len(blocks)] = (output[0] if isinstance(output, tuple) else output)[0]

    blocks = model.get_decoder().layers
    inner = [number for number in layers if number < len(blocks)]
    hooks = [blocks[number].register_forward_pre_hook(keep(number), with_kwargs=True) for number in inner]
    if len(blocks) + 1 in layers:
        head = model.get_output_embeddings()
        hooks.append(head.register_forward_pre_hook(keep(len(blocks) + 1), with_kwargs=True))
    if len(blocks) in layers:
        hooks.append(blocks[-1].register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
