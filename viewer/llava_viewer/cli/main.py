"""The frame of the command: parse, run, and turn every expected failure into one line and an exit code.

Flow: argv -> parser -> command -> 0; 1 when it failed, 2 when the command line itself is wrong, 130 on Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence

from llava_viewer.cli.console import NamedFileError, UsageError, one_line, say
from llava_viewer.cli.parser import build_parser
from llava_wire.errors import RecordError, RequestError

TRACEBACK = "LLAVA_GAZE_TRACEBACK"
"""Environment variable: unforeseen errors end in their traceback instead of one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets an escape instead of a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        with warnings.catch_warnings():
            warnings.showwarning = _warn_once()
            arguments.run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output (head, less) left. Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (UsageError, NamedFileError) as error:
        return _failed(error, 2)
    except OSError as error:
        return _failed(error if isinstance(error, RequestError) else _file_message(error), 1)
    except (RequestError, RecordError, ImportError, ValueError) as error:
        return _failed(error, 1)
    except Exception as error:  # bytes of a file or a server that nobody has thought of
        if os.environ.get(TRACEBACK):
            raise
        return _failed(_unforeseen(error), 1)
    return 0


def _unforeseen(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "memory: got none left, expected what this process may take; name a smaller file or ask for less"
    words = f"{type(error).__name__} {error}".strip()
    return f"{words:.300}: got what this command cannot work with; {TRACEBACK}=1 shows where, which is worth a report"


def _warn_once() -> Callable[..., None]:
    """What shows warnings: each text once, however many files it concerns."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            say(f"warning: {one_line(str(message))}")

    return show


def _joined(argv: Sequence[str]) -> list[str]:
    """`--token KEY` as one argument: one key in 64 begins with a dash and would pass for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--token":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _failed(error: object, code: int) -> int:
    say(f"error: {one_line(str(error))}")
    return code


def _file_message(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
