"""What the attention of a loaded model does, seen by running a few tokens.

Flow: token ids and positions -> one forward with a recorder that keeps what each layer hands to its attention ->
`Observation`. Nothing is asked of names or configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from llava_server.attend.capture import AttentionCall


@dataclass
class Observation:
    """What each text layer handed to its attention; itself the recorder.

    Args:
        modules: the attention modules.
        keys: the rotated keys, [kv head, position, head_dim].
        options: names of what was handed over beside queries, keys, values and mask, without what was None -> the
            first layer that did.
        hiding: layers whose last position does not see every key.
    """

    modules: dict[int, torch.nn.Module] = field(default_factory=dict)
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)
    hiding: list[int] = field(default_factory=list)

    def record(self, call: AttentionCall) -> None:
        """See `llava_server.attend.capture.Recorder`."""
        self.modules[call.layer] = call.module
        self.keys[call.layer] = call.key[0].clone()
        for name, value in call.options.items():
            if value is not None:
                self.options.setdefault(name, call.layer)
        if call.mask is not None and not bool(call.mask[:, :, -1].all()):
            self.hiding.append(call.layer)


@torch.inference_mode()
def observe(model: Any, positions: Sequence[int]) -> Observation:
    """Runs the text model on a few tokens.

    Args:
        model: the whole model, with the capture on its text model.
        positions: one position id per token, the same on every axis; causality is that of the order, not of the
            positions.
    """
    seen = Observation()
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(len(positions), device=device)[None] % 8 + 1
    place = torch.tensor([list(positions)], device=device)
    model(input_ids=ids, position_ids=place, attention_mask=torch.ones_like(ids), use_cache=False, query_capture=seen)
    return seen


def rotation_depends_on_length(model: Any, context: int) -> bool:
    """Whether a token's keys change when the text grows longer (dynamic and long-rope scaling).

    Where they do, one forward over a whole answer is not what decoding it was.

    Args:
        model: the whole model, with the capture on its text model.
        context: the longest text that it takes, in tokens.
    """
    near, far = observe(model, [0, 1, 2, 3]), observe(model, [0, 1, 2, context - 1])
    return any(not torch.equal(near.keys[layer][:, :3], far.keys[layer][:, :3]) for layer in near.keys)
