"""LLaVA with attention capture, no server: requests in, records out.

What scripts need is here by name and imported when it is first asked for: `import llava_server` alone loads no torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

# tqdm, which transformers imports, says so in red in every notebook without ipywidgets; nothing here needs them.
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from llava_server.ask.request import GenerateRequest
    from llava_server.engine import Engine
else:
    _WHERE = {"Engine": "llava_server.engine", "GenerateRequest": "llava_server.ask.request"}

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["Engine", "GenerateRequest"]
