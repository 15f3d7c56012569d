"""Which server and which model a command asks, and with which key; or which engine, where no server runs.

Flow: --url, --grpc, --name, --model and keys -> `Destination` -> `Client`. Without an address it is a server of this
machine, found by the file that it keeps; its key file and certificate come along, also for an address that is its.
--engine -> `Loaded` -> `Client`.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

from llava_viewer.cli.console import UsageError, one_line, say
from llava_viewer.client.address import DEFAULT_TARGET, DEFAULT_URL, shown, split_url
from llava_viewer.client.auth import Token, or_key_file
from llava_viewer.client.base import Client
from llava_viewer.client.local import VARIABLE, choose_model, find_server, server_at
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES, DEFAULT_TIMEOUT_S
from llava_viewer.client.retry import DEFAULT_RETRY_S
from llava_viewer.client.transport.process import command_of

_MOST_REPLY_MIB = 256
"""No larger record is read."""


@dataclass(frozen=True)
class Destination:
    """A server's address, the model to ask there, and what is known of the server.

    Args:
        address: http://HOST:PORT, or HOST:PORT for gRPC.
        served: the models that it has; empty when nobody knows.
    """

    address: str
    over_grpc: bool
    model: str
    token: Token
    ca_file: Path | None
    served: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} at {shown(self.address)}"

    def client(self, arguments: argparse.Namespace, most_retry_s: float = math.inf) -> Client:
        """A client of it, with the patience that the arguments ask for, or less."""
        retry_s = min(arguments.retry, most_retry_s)
        make = Client.grpc if self.over_grpc else Client.http
        return make(
            self.address, model=self.model, token=self.token, ca_file=self.ca_file, served=self.served,
            timeout_s=arguments.timeout, retry_s=retry_s, max_reply_bytes=arguments.max_reply << 20,
        )  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model in a process of its own, where no server is asked."""

    asks: Client

    @property
    def model(self) -> str:
        """Its name."""
        return self.asks.model

    def __str__(self) -> str:
        return f"{self.model}, without a server"

    def client(self, arguments: argparse.Namespace, most_retry_s: float = math.inf) -> Client:
        """The one that has loaded it."""
        return self.asks


Where = Destination | Loaded


def add_arguments(parser: argparse.ArgumentParser, model: str) -> argparse._ArgumentGroup:
    """The arguments that name a server, or an engine; the engine's group, for what else belongs there.

    Args:
        model: says in words which model is asked when none is named.
    """
    server = parser.add_argument_group("server")
    way = server.add_mutually_exclusive_group()
    way.add_argument(
        "--url", type=_url, help=f"ask over HTTP: a server's address (default: a server of this machine; {DEFAULT_URL})"
    )
    way.add_argument(
        "--grpc",
        nargs="?",
        const="",
        type=_target,
        metavar="HOST:PORT",
        help=f"ask over gRPC (default: a server of this machine; {DEFAULT_TARGET})",
    )
    server.add_argument(
        "--name",
        help=f"which server of this machine, by name or run folder (default: {VARIABLE}, else the one that runs)",
    )
    server.add_argument("--model", help=f"the served model (default: {model})")
    key = server.add_mutually_exclusive_group()
    key.add_argument("--token", help="the server's inference key")
    key.add_argument("--key-file", type=Path, metavar="FILE", help="TorchServe's key_file.json")
    server.add_argument("--ca-file", type=Path, metavar="PEM", help="certificates to trust; encrypts gRPC")
    server.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="give up after, connecting, the whole reply and all repetitions included (default: %(default)g)",
    )
    server.add_argument(
        "--retry",
        type=_patience,
        default=DEFAULT_RETRY_S,
        metavar="SECONDS",
        help="send again for so long when the server is overloaded or its worker died (default: %(default)g)",
    )
    server.add_argument(
        "--max-reply",
        type=_mebibytes,
        default=DEFAULT_REPLY_BYTES >> 20,
        metavar="MIB",
        help="read no larger reply, for a server whose max_response_bytes was raised (default: %(default)s)",
    )
    engine = parser.add_argument_group("engine, instead of a server")
    engine.add_argument(
        "--engine", metavar="MODEL", help="run the model in a process of its own: a model or its folder"
    )
    engine.add_argument("--device", help="of the engine: cpu, cuda, cuda:1 or map")
    engine.add_argument("--dtype", help="of the engine: float32, float16 or bfloat16")
    return engine


def check_engine(arguments: argparse.Namespace) -> bool:
    """Whether the arguments name an engine in place of a server.

    Raises:
        UsageError: arguments of both.
    """
    if not arguments.engine:
        for name in ("device", "dtype"):
            if getattr(arguments, name):
                raise UsageError(f"--{name}: got it without --engine, expected both; name the engine's model")
        return False
    for name in ("url", "grpc", "name", "model", "token", "key_file", "ca_file"):
        if getattr(arguments, name) is not None:
            named = name.replace("_", "-")
            raise UsageError(f"--{named}: got it beside --engine, expected a server or an engine; leave one out")
    return True


def engine_of(arguments: argparse.Namespace) -> list[str] | None:
    """The command of the engine that the arguments name; None where they mean a server.

    Raises:
        UsageError: arguments of both.
    """
    return command_of(arguments.engine, arguments.device, arguments.dtype) if check_engine(arguments) else None


def destination(arguments: argparse.Namespace, preferred: str | None = None) -> Where:
    """Where the arguments lead; an engine is loaded.

    Args:
        preferred: the model that a record comes from, asked where it is served and no other is named.

    Raises:
        UsageError: arguments that do not go together.
        RequestError: no server of that name runs here, or which one or which model is meant is not said; or the engine
            does not load.
    """
    if check_engine(arguments):
        given = {"device": arguments.device, "dtype": arguments.dtype, "timeout_s": arguments.timeout}
        return Loaded(Client.engine(arguments.engine, **given, say=lambda line: say(one_line(line))))
    return _server(arguments, preferred)


def _server(arguments: argparse.Namespace, preferred: str | None) -> Destination:
    """The server and model that the arguments name."""
    over_grpc = arguments.grpc is not None
    given = arguments.grpc or arguments.url
    if given and arguments.name:
        raise UsageError("--name: got it beside an address, expected one of them; leave one out")
    server = server_at(given) if given else find_server(arguments.name)
    if over_grpc:
        address, named = given or (server.grpc if server else DEFAULT_TARGET), None
    else:
        address, named = split_url(given or (server.http if server else DEFAULT_URL))
    if named and arguments.model and named != arguments.model:
        raise UsageError(f"--model: got {arguments.model} beside an address of {named}, expected one; leave one out")
    token = arguments.token if arguments.token is not None else arguments.key_file
    return Destination(
        address=address,
        over_grpc=over_grpc,
        model=arguments.model or named or choose_model(server.models if server else (), preferred),
        token=or_key_file(token, server.key_file) if server else token,
        ca_file=arguments.ca_file or (server.certificate if server else None),
        served=server.models if server else (),
    )


def _url(text: str) -> str:
    try:
        split_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds above 0")
    return seconds


def _patience(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else _seconds(text)


def _mebibytes(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII) or int(text) > _MOST_REPLY_MIB:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 1 to {_MOST_REPLY_MIB} MiB")
    return int(text)


def _target(text: str) -> str:
    if text and not re.fullmatch(r"[\w.\[\]:-]+:\d+", text, re.ASCII):
        # `--grpc PICTURE QUESTION` takes the picture for the address.
        raise argparse.ArgumentTypeError(
            f"got {shown(text)!r}, expected HOST:PORT; put a bare --grpc after the question"
        )
    return text
