"""Servers that drip, flood, lie and break off: the client keeps its time and its bounds, and says in one line what was
wrong, from Python and on the command line.

Flow: every behaviour once through `Client` and once through the command, many at a time -> a test for each.
"""

from __future__ import annotations

import contextlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RecordError, RequestError
from support.hostile import HostileServer
from support.hostile_grpc import GRPC
from support.hostile_http import HTTP, Case
from support.synthetic import make_picture

SLACK_S, LONGEST_SLACK_S = 1.0, 8.0
"""Of the faster and of the slower of both: threads wait for a processor. What goes on without end goes on for 20 s."""
ALLOWED_MIB = 4
LARGE_BYTES = 16 << 20
"""More than the sockets of both sides hold."""
CASES = {f"{case.way}: {case.name}": case for case in (*HTTP, *GRPC)}
AT_ONCE = 12


@dataclass(frozen=True)
class Outcome:
    """What became of one case: the error from Python, the exit code of the command, and what both took."""

    error: BaseException | None
    exit_code: object
    seconds: tuple[float, float]
    taken_bytes: tuple[int, int]
    connections: int


def ask(case: Case, server: HostileServer, image: bytes) -> BaseException | None:
    """Asks once from Python; the exception that came of it."""
    bounds = {"timeout_s": case.timeout_s, "retry_s": case.retry_s, "max_reply_bytes": ALLOWED_MIB << 20}
    scheme = "https" if case.way == "https" else "http"
    try:
        client = (
            Client.grpc(f"127.0.0.1:{server.port}", **bounds)  # type: ignore[arg-type]
            if case.way == "grpc"
            else Client.http(f"{scheme}://127.0.0.1:{server.port}", **bounds)  # type: ignore[arg-type]
        )
        with client:
            if case.way == "stream":
                list(client.stream(image, "what?", keep_picture=False))
            else:
                client.predict(image, "what?", keep_picture=False)
    except BaseException as error:
        return error
    return None


def command(case: Case, server: HostileServer, picture: Path) -> object:
    """Asks once with the command; its exit code, or what it raised."""
    scheme = "https" if case.way == "https" else "http"
    way = (
        ["--grpc", f"127.0.0.1:{server.port}"]
        if case.way == "grpc"
        else ["--url", f"{scheme}://127.0.0.1:{server.port}"]
    )
    bounds = ["--timeout", str(case.timeout_s), "--retry", str(case.retry_s), "--max-reply", str(ALLOWED_MIB)]
    stream = ["--stream"] if case.way == "stream" else []
    try:
        return main(["predict", str(picture), "what?", *way, *bounds, *stream, "--no-image", "--model", "llava-shapes"])
    except BaseException as error:
        return error


def tried(case: Case, picture: Path, large: Path) -> Outcome:
    """One case, from Python and with the command."""
    file = large if case.large else picture
    with (
        HostileServer(case.behave, accepts=case.accepts) as first,
        HostileServer(case.behave, accepts=case.accepts) as second,
    ):
        begin = time.monotonic()
        error = ask(case, first, file.read_bytes())
        middle = time.monotonic()
        exit_code = command(case, second, file)
        seconds = (middle - begin, time.monotonic() - middle)
        time.sleep(0.05)
        return Outcome(error, exit_code, seconds, (first.sent_bytes, second.sent_bytes), len(first.wires))


class Outcomes(NamedTuple):
    """By case, and what all commands together wrote to stderr."""

    by_name: dict[str, Outcome]
    said: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of every case."""
    folder, said = tmp_path_factory.mktemp("hostile"), io.StringIO()
    make_picture(60, 40).save(folder / "x.png")
    (folder / "large.png").write_bytes(bytes(LARGE_BYTES))
    # The first client of a transport loads its package, which is none of the time that is looked at.
    for make in (Client.http, Client.grpc):
        make().close()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setenv("LLAVA_GAZE_TOKEN", "secret")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(lambda case: tried(case, folder / "x.png", folder / "large.png"), CASES.values()))
    return Outcomes(dict(zip(CASES, found, strict=True)), said.getvalue())


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_server(name: str, outcomes: Outcomes) -> None:
    case, outcome = CASES[name], outcomes.by_name[name]
    error = outcome.error
    assert isinstance(error, RequestError | RecordError), repr(error)
    code = error.code if isinstance(error, RequestError) else "record"
    assert code in case.codes, str(error)
    assert len(str(error)) < 2500
    assert outcome.exit_code == 1
    assert min(outcome.seconds) <= case.timeout_s + SLACK_S
    assert max(outcome.seconds) <= case.timeout_s + LONGEST_SLACK_S
    assert not case.bounded or max(outcome.taken_bytes) <= 1.2 * (ALLOWED_MIB << 20)
    assert outcome.connections <= case.connections


def test_every_command_said_what_was_wrong_and_none_showed_its_insides(outcomes: Outcomes) -> None:
    assert "Traceback" not in outcomes.said
    assert outcomes.said.count("error: ") == len(CASES)
    assert all(char.isprintable() or char == "\n" for char in outcomes.said)
    assert "secret" not in outcomes.said
