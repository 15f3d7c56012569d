"""Whether requests fit beside the weights: the configured limit, and what the devices really have left now.

Flow: loaded model -> `Room` (asked once per call of the engine) -> a refusal for a request that cannot fit even alone,
and the answer to "may these share a batch?".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llava_server.ask.plan import Plan
from llava_server.fit.estimate import Estimate, advice
from llava_server.load.loading import LoadedModel
from llava_server.load.memory import DeviceMemory, device_memory
from llava_wire.errors import RequestError


@dataclass(frozen=True)
class Room:
    """The memory of every device that holds text layers.

    Args:
        batch_bytes: the configured limit of a batch.
        layer_share: per device the part of the text layers that lie on it, in (0, 1]; one device unless spread.
        memory: per device what it has, in the same order; the first one also holds maps and pictures.
    """

    batch_bytes: int
    layer_share: tuple[float, ...]
    memory: tuple[DeviceMemory, ...]

    @classmethod
    def of(cls, loaded: LoadedModel, batch_bytes: int) -> Room:
        """Asks the devices of a loaded model."""
        places = loaded.layer_devices
        layers = Counter({loaded.device: 0})  # home first
        layers.update(places)
        shares = tuple(count / len(places) for count in layers.values())
        return cls(batch_bytes, shares, tuple(device_memory(device) for device in layers))

    def check(self, needed: Estimate, plan: Plan) -> None:
        """Refuses what cannot fit even alone.

        Raises:
            RequestError: "does_not_fit", with both numbers and the option that would make it fit.
        """
        if needed.device_bytes > self.batch_bytes:
            raise _refusal(needed.device_bytes, str(self.batch_bytes), plan)
        for part, memory in zip(self._parts(needed), self.memory, strict=True):
            if part > memory.available_bytes:
                raise _refusal(part, str(memory), plan)

    def holds(self, needed: Sequence[Estimate]) -> bool:
        """Whether requests may run as one batch; each estimate is that of a request padded to the batch's extent."""
        if sum(one.device_bytes for one in needed) > self.batch_bytes:
            return False
        parts = [sum(on_device) for on_device in zip(*map(self._parts, needed), strict=True)]
        return all(part <= memory.available_bytes for part, memory in zip(parts, self.memory, strict=True))

    def _parts(self, needed: Estimate) -> list[float]:
        """Bytes on each device: cache and capture follow the layers, activations pass through, maps stay at home."""
        parts = [
            share * (needed.cache_bytes + needed.capture_bytes) + needed.scratch_bytes for share in self.layer_share
        ]
        parts[0] += needed.maps_bytes + needed.looking_bytes
        return parts


def _refusal(got: float, allowed: str, plan: Plan) -> RequestError:
    message = f"got {got:.0f} bytes of device memory, expected {allowed}; {advice(plan)}"
    return RequestError("does_not_fit", "options", message)
