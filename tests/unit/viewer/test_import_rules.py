"""The viewer runs where the server's packages are absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

SERVER_ONLY = ("torch", "transformers", "ts", "accelerate", "yaml", "tokenizers", "safetensors", "llava_server")
EXTRAS = ("httpcore2", "grpc", "google.protobuf")

_WALK = """
import importlib, pkgutil, sys
for name in {blocked!r}:
    sys.modules[name] = None
for package in ("llava_wire", "llava_doors", "llava_eval", "llava_viewer"):
    for info in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
loaded = sorted({{name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}})
print(*loaded)
"""


def walk(blocked: tuple[str, ...]) -> set[str]:
    """Imports every module of the wire format and the viewer with some packages blocked; the top-level names loaded."""
    code = _WALK.format(blocked=blocked)
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'handler')!r}, {str(ROOT / 'viewer')!r}]\n"
    done = subprocess.run([sys.executable, "-c", path + code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_viewer_module_imports_without_the_servers_packages_and_without_extras() -> None:
    loaded = walk((*SERVER_ONLY, *EXTRAS))
    third_party = (
        loaded - set(sys.stdlib_module_names) - {"llava_wire", "llava_doors", "llava_eval", "llava_viewer", "__main__"}
    )
    allowed = {"numpy", "PIL", "jinja2", "markupsafe"}
    # Pillow brings in what it finds for some formats, and site-packages may hold start-up hooks.
    assert not third_party & {*SERVER_ONLY, "httpcore2", "grpc", "google"}
    assert {"numpy", "PIL"} <= third_party
    assert {name for name in third_party if not name.startswith("_")} <= allowed | {"defusedxml", "olefile", "cffi"}
