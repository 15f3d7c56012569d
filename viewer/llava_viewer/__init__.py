"""Reads, renders and compares records; talks to a server over HTTP or gRPC. Never imports torch.

What scripts need is here by name and imported when it is first asked for: `import llava_viewer` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llava_viewer.client.base import Client
    from llava_viewer.judging import annotated
    from llava_viewer.records import load, render, save, with_picture
else:
    _WHERE = {
        "Client": "llava_viewer.client.base",
        "annotated": "llava_viewer.judging",
        "load": "llava_viewer.records",
        "render": "llava_viewer.records",
        "save": "llava_viewer.records",
        "with_picture": "llava_viewer.records",
    }

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["Client", "annotated", "load", "render", "save", "with_picture"]
