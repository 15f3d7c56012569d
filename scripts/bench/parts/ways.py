"""The ways of getting attention that are compared, each as one answer in progress.

Flow: `Way` -> `Answer` (its cache, its capture) -> forwards (prefill, decode steps) -> `finish` (the attention rows).

Plain sdpa gives none; ours keeps queries and computes rows at the end; output_attentions=True keeps every row of every
layer; forward hooks recompute q for the last row, as tools do that cannot change the attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, LlamaForCausalLM

from bench.parts.text_model import TEXT_TOKENS
from llava_server.ask.plan import ViewPlan
from llava_server.attend.capture import CAPTURE_ATTENTION, QueryCapture
from llava_server.attend.rows import RowLayout
from llava_server.attend.seen import SeenRows
from llava_server.look.reduce import reduced_views
from llava_wire.reduction import REDUCTIONS

BASE = "plain"
_IMAGE_START = 5


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        title: its name in the table.
        attention: transformers' attention implementation.
        views: what our capture computes at the end.
        output_attentions: whether forward returns attention.
        hooks: whether forward hooks recompute q.
        question: prompt rows captured besides the last.
    """

    title: str
    attention: str
    views: tuple[ViewPlan, ...] = ()
    output_attentions: bool = False
    hooks: bool = False
    question: int = 0


def ways(layers: int, heads: int) -> dict[str, Way]:
    """Every way by its key, for a model of that many layers and heads."""
    grid = tuple(range(layers)), tuple(range(heads))
    pair = ViewPlan("localization", REDUCTIONS["layers_heads"], (), (), ((layers // 2, 0), (layers // 2, 1)))
    mean = ViewPlan("mean", REDUCTIONS["layers_heads"], *grid)
    everything = ViewPlan("everything", REDUCTIONS["none"], *grid)
    return {
        BASE: Way("plain sdpa", "sdpa"),
        "idle": Way("capture registered, idle", CAPTURE_ATTENTION),
        "default": Way("capture, default views (two heads; mean of all)", CAPTURE_ATTENTION, (pair, mean)),
        "reduced": Way("capture, all layers and heads reduced", CAPTURE_ATTENTION, (mean,)),
        "unreduced": Way("capture, all layers and heads unreduced", CAPTURE_ATTENTION, (everything,)),
        "question": Way("capture, unreduced, 24 question rows too", CAPTURE_ATTENTION, (everything,), question=24),
        "eager": Way("eager, output_attentions=True", "eager", output_attentions=True),
        "hooks": Way("forward hooks recomputing q", "sdpa", hooks=True),
    }


class Answer:
    """One answer of one way: what it has in its cache and what it keeps.

    Args:
        model: the shared model.
        way: how its attention is taken.
        prompt: tokens of the prompt.
        cache: the cache so far.
    """

    def __init__(self, model: LlamaForCausalLM, way: Way, prompt: int, cache: DynamicCache) -> None:
        self.way = way
        self.cache = cache
        self.kept: list[Any] = []
        self.capture: QueryCapture | None = None
        self._model = model
        self._prompt = prompt
        self._handles: list[Any] = []
        self._arguments: dict[str, Any] = {"output_attentions": True} if way.output_attentions else {}
        if way.views:
            rows = torch.tensor([[prompt - 1, *range(prompt - way.question - 1, prompt - 1)]])
            layers = frozenset(layer for view in way.views for layer in view.cells)
            self.capture = QueryCapture(rows, prompt, layers)
            self._arguments["query_capture"] = self.capture
        self._positions = [*range(prompt - way.question - 1, prompt)]

    def attach(self) -> None:
        """Gives the shared model this way's attention and hooks; never part of what is timed."""
        self._model.set_attn_implementation(self.way.attention)
        if self.way.hooks:
            modules = [layer.self_attn for layer in self._model.model.layers]
            self._handles = [module.register_forward_hook(self._recompute, with_kwargs=True) for module in modules]

    def detach(self) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Runs the model over ids [1, n] at positions [1, n]."""
        output = self._model(
            ids, position_ids=positions, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **self._arguments
        )
        if self.way.output_attentions:
            self.kept.append(output.attentions)

    def stepped(self, position: int) -> None:
        """Notes that a decode step ran at this position, so that `finish` computes its row."""
        self._positions.append(position)

    def finish(self) -> None:
        """Rows and reductions of all steps, as the engine does it when a request has finished."""
        if self.capture is None:
            return
        layout = RowLayout(
            pad=0,
            prompt_length=self._prompt,
            has_bos=True,
            places=range(_IMAGE_START, _IMAGE_START + self._prompt - TEXT_TOKENS),
            positions=torch.tensor(self._positions),
        )
        every_row = torch.ones(len(self._positions), dtype=torch.bool)
        keys = [layer.keys for layer in self.cache.layers]
        seen = SeenRows(self.capture, keys, 0, layout, self._model.device)
        self.kept = reduced_views(self.way.views, seen, every_row).views

    def release(self) -> None:
        """Lets go of cache and queries, as the engine does when a request has finished; what was kept stays."""
        self.cache = DynamicCache()
        self.capture = None
        self._arguments = {}

    def _recompute(self, module: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        hidden = given["hidden_states"] if "hidden_states" in given else args[0]
        query = module.q_proj(hidden[:, -1:]).view(1, 1, -1, module.head_dim).transpose(1, 2)
        cosine, sine = (part[:, None, -1:] for part in given["position_embeddings"])
        turned = torch.cat([-query[..., module.head_dim // 2 :], query[..., : module.head_dim // 2]], dim=-1)
        query = query * cosine + turned * sine
        keys = self.cache.layers[module.layer_idx].keys
        weights = (query.float() @ keys.float().transpose(2, 3) * module.scaling).softmax(-1)
        image = weights[..., _IMAGE_START : _IMAGE_START + self._prompt - TEXT_TOKENS]
        self.kept.append(image.mean(1))
