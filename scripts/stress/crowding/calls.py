"""Many gRPC calls at once with one message that exists already.

Flow: message + how many -> a channel for each -> `Seen` of each call.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Iterator

import grpc

from stress.crowding.messages import SERVICE
from stress.crowding.replies import LEFT_OPEN, NO_REPLY, Seen, grpc_word, message_word


class Calls:
    """Channels to one server, each with a connection of its own, as of so many clients.

    Args:
        address: host:port.
        key: the bearer token; None for none.
        channels: how many.
    """

    def __init__(self, address: str, key: str | None, channels: int) -> None:
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        size = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # Channels of one process share connections unless they are told not to.
        options = [*size, ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(address, options=options) for _ in range(channels)]

    def send_all(self, message: bytes | None, count: int, patience_s: float, *, whole: bool = True) -> list[Seen]:
        """Makes all calls at once and waits for what becomes of each.

        Args:
            message: of each call; None for a call that never sends one, and so is no whole one.
            count: how many.
            patience_s: seconds after which a call counts as without a reply, or as left open.
            whole: whether the calls end after their message; otherwise their client goes on as if more were to come.
        """
        begin, ended = time.monotonic(), threading.Event()
        method = SERVICE + "Predictions"
        pending = []
        for number in range(count):
            channel = self._channels[number % len(self._channels)]
            if whole and message is not None:
                pending.append(channel.unary_unary(method).future(message, metadata=self._metadata))
            else:
                pending.append(channel.stream_unary(method).future(_unended(message, ended), metadata=self._metadata))
        words: dict[int, Seen] = {}

        def note(number: int, call: grpc.Future) -> None:
            words[number] = Seen(_word(call), round(time.monotonic() - begin, 2))

        for number, call in enumerate(pending):
            call.add_done_callback(lambda call, number=number: note(number, call))
        end = begin + patience_s
        while len(words) < count and time.monotonic() < end:
            time.sleep(0.02)
        seen = dict(words)
        ended.set()
        for call in pending:
            call.cancel()
        missing = Seen(NO_REPLY if whole else LEFT_OPEN, patience_s)
        return [seen.get(number, missing) for number in range(count)]

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            channel.close()


def _unended(message: bytes | None, ended: threading.Event) -> Iterator[bytes]:
    if message is not None:
        yield message
    ended.wait()


def _word(call: grpc.Future) -> str:
    try:
        return message_word(call.result(timeout=0))
    except grpc.RpcError as error:
        return grpc_word(error.code().name, error.trailing_metadata() or ())
    except (grpc.FutureCancelledError, concurrent.futures.CancelledError):
        return "CANCELLED"
