"""Takes a checkout's scripts off the path of every Python that TorchServe starts; they read it as `sitecustomize`.

Flow: `servekit.launching` copies this file into a folder that PYTHONPATH names -> Python's start runs it -> the path
without that folder and without scripts, which an editable install names -> the machine's own `sitecustomize`.
A worker is to run what its archive holds; what only a checkout has must be missing here as it is anywhere else.
"""

from __future__ import annotations

import contextlib
import os
import sys

_MARK = os.path.join("servekit", "paths.py")


def clean(path: list[str], own: str) -> list[str]:
    """The path without the folder `own` and without folders that hold `servekit`."""
    return [folder for folder in path if folder != own and not os.path.isfile(os.path.join(folder, _MARK))]


if __name__ == "sitecustomize":
    sys.path[:] = clean(sys.path, os.path.dirname(__file__))
    _own = sys.modules.pop(__name__)
    with contextlib.suppress(ImportError):
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    sys.modules.setdefault(__name__, _own)
