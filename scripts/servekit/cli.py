"""The frame of every script's main: progress on stderr, one line per failure, exit codes 0, 1 and 2.

Flow: parser -> arguments -> the script's own function -> exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from servekit.paths import SetupError, refusal


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser with an example at its end."""
    return argparse.ArgumentParser(
        description=description, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )


def say(line: str) -> None:
    """One line of progress."""
    print(line, file=sys.stderr, flush=True)


def run(main: Callable[[], int]) -> None:
    """Ends the process with `main`'s exit code; a `SetupError` or a file system's refusal is one line and code 1."""
    try:
        code = main()
    except SetupError as trouble:
        say(f"error: {trouble}")
        code = 1
    except OSError as error:
        refused = refusal(error)
        if refused is None:
            raise
        say(f"error: {refused}")
        code = 1
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    sys.exit(code)
