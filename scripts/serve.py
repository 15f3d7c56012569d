"""Starts and stops TorchServe with the models named, and nothing else.

Flow: arguments -> `servekit.server.start_server` -> addresses on stdout -> fresh keys until a signal -> stop.
In the background a process of its own does the same.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import time
import types
from pathlib import Path

from build_mar import build

from servekit import causes
from servekit.adopting import adopted
from servekit.cli import parser, run, say
from servekit.drain import drain_server
from servekit.paths import SetupError, run_folder, shown
from servekit.ports import read_properties, resolve_ports
from servekit.server import DEFAULT_NAME, ServerHandle, start_server, stop_server
from servekit.state import ServerState, own_state
from servekit.tls import Tls
from servekit.watch.background import LetGo, detached
from servekit.watch.notify import READY, STOPPING, notify

_MOST_CRASHES = 5
_CRASH_WINDOW_S = 600.0
_PAUSE_S = 2.0
"""Before a start that follows one that failed; twice as long each time."""


def describe(state: ServerState) -> str:
    """The addresses of a running server, one a line."""
    key_file = shown(Path(state.key_file))
    lines = [
        *(f"HTTP        {state.http}/predictions/{model}" for model in state.models),
        f"gRPC        {state.grpc}",
        f"management  {state.management}",
        f"metrics     {state.metrics}/metrics",
        f"keys        {key_file} (make -s token{'' if state.name == DEFAULT_NAME else f' NAME={state.name}'})",
        f"logs        {shown(Path(state.logs))}",
    ]
    return "\n".join(lines)


def stop(name: str, grace_s: float) -> int:
    """Stops the named server, after what it accepted; without one there is nothing to do, which is no error."""
    state = own_state(name)
    if state is None:
        say(f"server {name!r}: none running")
        return 0
    if state.status == "ready" and state.alive():
        _drain(state, grace_s)
    was_running = stop_server(state)
    say(f"server {name!r}: {'stopped' if was_running else 'was not running; cleaned up'}")
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """Builds what is missing, starts, and stays with the server until a signal; `--background` without a terminal."""
    # From the first moment on: a signal during the start must not leave Java behind either.
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # a terminal that closes, unless nohup said otherwise
        signal.signal(signal.SIGHUP, _terminate)
    if arguments.background:
        return detached(lambda let_go: _serve(arguments, let_go))
    return _serve(arguments, None)


def _serve(arguments: argparse.Namespace, let_go: LetGo | None) -> int:
    models = [adopted(model, say) for model in arguments.models or ["llava-things"]]
    for model in models if not arguments.no_build else []:
        path, built = build(model)
        if built:
            say(f"built {shown(path)}")
    tls = Tls(arguments.certificate, arguments.private_key) if arguments.certificate else None
    # The same ports after a restart, so that clients find the server again.
    ports = resolve_ports(arguments.ports, read_properties())
    crashes: list[float] = []
    while True:
        try:
            handle = start_server(
                models,
                name=arguments.name,
                ports=ports,
                tls=tls,
                keys=arguments.keys,
                timeout_s=arguments.timeout,
                progress=say,
            )
        except SetupError as trouble:
            if not crashes:
                raise
            # What keeps it from starting again may pass, as a machine's lack of memory does.
            why, is_up = (
                str(trouble).replace(shown(run_folder(arguments.name) / "logs"), _crash_place(arguments)),
                False,
            )
        else:
            code = _stay(handle, arguments, let_go)
            if code is None:
                return 0
            cause = causes.ending(code, Path(handle.state.logs), was_ready=True)
            is_up = True
            why = f"torchserve: ended by itself with code {code} ({cause}); see {_crash_place(arguments)}"
        _keep_logs(arguments.name)
        crashes = [moment for moment in crashes if time.monotonic() - moment < _CRASH_WINDOW_S] + [time.monotonic()]
        if not arguments.restart or len(crashes) > _MOST_CRASHES:
            raise SetupError(why)
        say(f"{why}; starting it again")
        notify(f"STATUS=starting again: {why}")
        time.sleep(0 if is_up else _PAUSE_S * 2 ** len(crashes))


def _stay(handle: ServerHandle, arguments: argparse.Namespace, let_go: LetGo | None) -> int | None:
    """Says where a server is and waits for its end, as `_watch` does."""
    try:
        print(describe(handle.state), flush=True)
        if let_go is None:
            say("Ctrl-C stops it")
        else:
            say(f"in the background; stop it with: make stop{_name_option(arguments.name)}")
            let_go(Path(handle.state.logs) / "serve.log")
        notify(READY)
        return _watch(handle, arguments)
    except BaseException:
        # Whatever ends this process, such as a closed pipe for its addresses, must not leave Java behind.
        handle.stop()
        raise


def _watch(handle: ServerHandle, arguments: argparse.Namespace) -> int | None:
    """Waits for the end; None for one that was asked for, else TorchServe's exit code. Either way nothing remains."""
    try:
        code = handle.wait(say)
    except KeyboardInterrupt as interrupt:
        # A second Ctrl-C while stopping would leave Java behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        notify(STOPPING)
        if isinstance(interrupt, _Terminated):
            _drain(handle.state, arguments.grace)
        say("stopping")
        handle.stop()
        return None
    # `--stop` from elsewhere takes the state away once Java has ended; a crash leaves it.
    patience_s = time.monotonic() + (0 if code < 0 else 6)
    while (written := handle.state.is_written_down()) and time.monotonic() < patience_s:
        time.sleep(0.2)
    stopped_elsewhere = not written
    handle.stop()
    if stopped_elsewhere:
        say("stopped")
        return None
    return code


def _crash_place(arguments: argparse.Namespace) -> str:
    return shown(run_folder(f"{arguments.name}-crash"))


def _keep_logs(name: str) -> None:
    """Moves the logs of a crash to a place where the next start leaves them."""
    logs, kept = run_folder(name) / "logs", run_folder(f"{name}-crash")
    with contextlib.suppress(OSError):
        if logs.exists():
            # A start that failed has no words of its own: in the background they still go to the file of the last one.
            words = kept / "serve.log"
            if words.exists() and not (logs / "serve.log").exists():
                words.rename(logs / "serve.log")
            shutil.rmtree(kept, ignore_errors=True)
            logs.rename(kept)


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: stop, but finish what was accepted."""


def _terminate(signum: int, frame: types.FrameType | None) -> None:
    raise _Terminated


def _drain(state: ServerState, grace_s: float) -> None:
    say(f"finishing what was accepted, for at most {grace_s:g} s")
    if not drain_server(state, grace_s):
        say("not everything was finished in time; what remains is reset")


def _name_option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" NAME={name}"


def _arguments() -> argparse.Namespace:
    arguments = parser(
        "Start (or stop) TorchServe with an explicit list of models.",
        "python scripts/serve.py llava-things\n  python scripts/serve.py /data/my-llava\n"
        "  python scripts/serve.py --background --ports auto --name second\n"
        "  python scripts/serve.py --stop --name second",
    )
    arguments.add_argument("models", nargs="*", help="models to serve, or folders (default: llava-things)")
    arguments.add_argument("--name", default=DEFAULT_NAME, help="run folder .run/NAME (default: %(default)s)")
    arguments.add_argument("--ports", help="'auto' for free ones, or the first of five (default: config.properties)")
    arguments.add_argument("--timeout", type=float, default=1200, help="seconds until ready (default: %(default)s)")
    arguments.add_argument(
        "--grace",
        type=float,
        default=30,
        help="seconds to finish accepted requests when stopping (default: %(default)s)",
    )
    arguments.add_argument("--no-build", action="store_true", help="take the archive as it is")
    arguments.add_argument("--certificate", type=Path, metavar="PEM", help="TLS on the inference ports; the chain")
    arguments.add_argument("--private-key", type=Path, metavar="PEM", help="its key: PKCS #8, no password")
    arguments.add_argument("--keys", type=Path, metavar="YAML", help="named keys of your own, which stay the same")
    arguments.add_argument(
        "--restart",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start again when TorchServe ends by itself, up to five times in ten minutes",
    )
    mode = arguments.add_mutually_exclusive_group()
    mode.add_argument("--background", action="store_true", help="return when ready, instead of staying until Ctrl-C")
    mode.add_argument("--stop", action="store_true", help="stop the server of this name")
    given = arguments.parse_args()
    if (given.certificate is None) != (given.private_key is None):
        arguments.error("--certificate and --private-key go together")
    return given


def main() -> int:
    """The command line."""
    arguments = _arguments()
    return stop(arguments.name, arguments.grace) if arguments.stop else serve(arguments)


if __name__ == "__main__":
    run(main)
