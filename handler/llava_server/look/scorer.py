"""A model that can be asked how probable a word stays when it sees only some of the patches.

Flow: a prepared replay of a record + one token -> `seen_at`: whether it fits -> `PatchScorer.log_probs`: sets of kept
patches to log probabilities. It is a `llava_eval.metric.Scorer`, which the server need not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from llava_doors.method import SIDE_BY_SIDE, Needs
from llava_server.ask.checking import invalid
from llava_server.attend.capture import QueryCapture
from llava_server.fit.estimate import sized
from llava_server.fit.room import Room
from llava_server.load.loading import LoadedModel
from llava_server.look.painted import Painter
from llava_server.look.seen import Seen
from llava_server.look.some_patches import in_batches, log_probs
from llava_server.run.batch import layout_of
from llava_server.run.prepare import Prepared

Baseline = Literal["mean embedding", "grey"]
MEAN: Baseline = "mean embedding"
GREY: Baseline = "grey"
NEEDS = Needs(rows="none", passes=SIDE_BY_SIDE)
"""Sets of patches that run side by side."""
UNSEEN: Mapping[str, Any] = {"views": [{"name": "none", "layers": [0], "heads": [0]}], "check": []}
"""Options of a replay whose maps nobody looks at."""


class PatchScorer:
    """See `llava_eval.metric.Scorer`; usable from several threads, which take turns.

    Args:
        seen: the run, one row.
        turn: what is held while the model runs.
        painter: paints hidden patches grey; None replaces their embeddings by the mean.
    """

    def __init__(self, seen: Seen, turn: AbstractContextManager[Any], painter: Painter | None = None) -> None:
        self._seen, self._turn, self._painter = seen, turn, painter

    @property
    def baseline(self) -> str:
        """What stands in the place of a hidden patch."""
        return MEAN if self._painter is None else GREY

    def log_probs(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """log p of the token in nats, once for every set of patches.

        Args:
            keep: bool [set, patch]; patches in the map's order, those of all grids; True: shown, False: hidden.

        Returns:
            float64 [set].

        Raises:
            ValueError: `keep` is of another shape or type, or (grey) hides in one grid all of what another shows.
        """
        sets = torch.from_numpy(np.ascontiguousarray(keep))
        with self._turn, torch.inference_mode(False), torch.no_grad():
            if self._painter is None:
                found = log_probs(self._seen, sets)
            else:
                found = in_batches(self._seen, sets, self._painter.entering)
        return found[:, 0].double().numpy(force=True).clip(max=0.0)


def seen_at(loaded: LoadedModel, prepared: Prepared, token: int, room: Room, baseline: Baseline = MEAN) -> Seen:
    """The row that predicted one token of a given answer, for forwards alone.

    Args:
        loaded: the model.
        prepared: a replay.
        token: the token's step.
        room: the memory that is there now.
        baseline: what will stand in the place of hidden patches.

    Raises:
        RequestError: a token that there is not, a model of which one forward is not what decoding was, or forwards that
            do not fit.
    """
    [item], extent = prepared.items, prepared.checked.extent
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < len(item.answer):
        raise invalid("token", token, f"a step of the answer, 0 to {len(item.answer) - 1}")
    if loaded.length_dependent:
        raise invalid("model", "keys that change with the length of the text", "a model that one forward can replay")
    if baseline == GREY and loaded.family.joined:  # features of as many images are made in one go
        extent = replace(extent, picture_bytes=extent.picture_bytes * NEEDS.passes)
    room.check(sized(item.plan, loaded.facts, extent, NEEDS), item.plan)
    layout = layout_of(item, 0, [len(item.prompt.ids) - 1 + token], loaded.processor.tokenizer.bos_token_id)
    unseen = QueryCapture(torch.zeros((1, 0), dtype=torch.int64), layout.length, frozenset())
    return Seen(
        unseen, (), 0, layout, loaded.device, NEEDS,
        loaded=loaded, asked=replace(item, deadline_s=math.inf), answer=item.answer,
    )  # fmt: skip
