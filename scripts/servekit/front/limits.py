"""How much the front takes at once, computed from the memory that TorchServe's Java was given.

Flow: config.properties -> heap, direct memory, largest request -> `Limits`, or the sum that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from servekit.paths import SetupError

SMALL_BYTES = 262_144
"""A request up to this size passes without waiting for the large ones; `CONNECTIONS` of them fit in any case."""
CONNECTIONS = 512
"""Connections over HTTP, and as many over gRPC."""
CALLS = 128
"""Requests that are passed on at once."""
LARGE_PER_WORKER = 4
"""Requests of the largest size that TorchServe has at once for each worker, at most."""
COPIES = 4
"""Copies of a request's body in Java, at most, in heap or in direct memory: as it arrives, whole, as a request's field,
and as the worker gets it (measured with bodies of 14 MB over HTTP and gRPC: docs/operations.md)."""
BASE_BYTES = 201_326_592
"""Java's own: classes, threads' buffers, replies on their way."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Limits:
    """Bounds of one front.

    Args:
        request_bytes: of one body or message.
        held_bytes: of all bodies that the front itself holds.
        passed_bytes: of all large bodies that TorchServe has.
    """

    request_bytes: int
    held_bytes: int
    passed_bytes: int

    @classmethod
    def of(cls, properties: Mapping[str, str], workers: int) -> Limits:
        """The limits that fit a TorchServe with these properties and so many workers.

        Raises:
            SetupError: not even one request of the largest size fits.
        """
        request = int(properties["max_request_size"])
        vmargs = properties.get("vmargs", "")
        heap = _size(vmargs, r"-Xmx(\d+)([kmg]?)")
        if heap is None:
            raise SetupError("config.properties vmargs: got no -Xmx, expected one such as -Xmx1g; add it")
        # Java takes as much direct memory as heap when nothing is said.
        direct = _size(vmargs, r"-XX:MaxDirectMemorySize=(\d+)([kmg]?)") or heap
        small = CALLS * SMALL_BYTES
        passed = (min(heap, direct) - BASE_BYTES) // COPIES - small
        if passed < request:
            least = (request + small) * COPIES + BASE_BYTES
            raise SetupError(
                f"config.properties vmargs: got {min(heap, direct)} bytes of heap or direct memory, expected at least "
                f"{least} for max_request_size {request} (its {COPIES} copies, small requests and Java itself); raise "
                "-Xmx and -XX:MaxDirectMemorySize, or lower max_request_size"
            )
        # More would only stand in TorchServe's one line, where a small request cannot pass it.
        passed = min(passed, workers * LARGE_PER_WORKER * request)
        return cls(request_bytes=request, held_bytes=max(16 * request, 2 * passed), passed_bytes=passed)


def _size(text: str, pattern: str) -> int | None:
    match = re.search(pattern, text, re.IGNORECASE)
    return int(match[1]) * _UNITS[match[2].lower()] if match else None
