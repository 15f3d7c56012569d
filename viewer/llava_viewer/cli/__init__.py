"""The command llava-viewer: ask a server, and read, render, list and export records.

Flow: arguments -> one command of `commands` -> the result on stdout, progress on stderr, exit code 0, 1 or 2.
"""

from llava_viewer.cli.main import main

__all__ = ["main"]
