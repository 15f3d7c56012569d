"""The decoders of a loaded model, as the ways of decoding (`llava_server.ask.decoding`) call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava_server.load.loading import LoadedModel
from llava_server.run.batch import BatchItem, BatchRun
from llava_server.run.beams import beam_search
from llava_server.run.generate import generate
from llava_server.run.replay import replay
from llava_server.run.static import StaticDecoder


@dataclass(frozen=True)
class ModelDecoders:
    """See `llava_server.ask.decoding.Decoders`.

    Args:
        loaded: model and processor.
        static: static buffers, used when a batch fits one of their buckets; None for the growing cache alone.
    """

    loaded: LoadedModel
    static: StaticDecoder | None = None

    def search(self, item: BatchItem) -> Sequence[BatchItem]:
        """Beam search for one request."""
        return beam_search(self.loaded, item)

    def write(self, items: Sequence[BatchItem]) -> BatchRun:
        """Token by token."""
        return generate(self.loaded, items, self.static)

    def replay(self, items: Sequence[BatchItem]) -> BatchRun:
        """One forward over given answers."""
        return replay(self.loaded, items)
