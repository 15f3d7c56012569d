"""Builds the archive that TorchServe loads: handler, packages, settings and, for a small model, its weights.

Flow: model YAML -> staged folder -> torch-model-archiver in a private TMPDIR -> import test of the unpacked archive ->
model_store/<model>.mar. Nothing happens when nothing changed: the archive carries the hash of what it was made from.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llava_server.load.checkpoint import check_checkpoint, check_files
from llava_wire.system.replacing import replacing
from servekit.adopting import adopted
from servekit.cli import parser, run, say
from servekit.models import EMBEDDED, as_trouble, locate_model, read_model_yaml
from servekit.paths import HANDLER_ROOT, MODEL_STORE, SetupError, archive, shown, writing

PACKAGES = ("llava_wire", "llava_doors", "llava_server")
ENTRY = "llava_handler.py"
STAMP = "build.json"
_DESCRIBING = (".json", ".jinja", ".model", ".txt")
"""Endings of model files that say what the model is."""
_LEFT_OUT = ("README.md", "*.md", "*.log", "*.jsonl", "__pycache__")

_IMPORT_TEST = """
import inspect, sys, pathlib
root = pathlib.Path(sys.argv[1]).resolve()
checkout = pathlib.Path(sys.argv[2]).resolve()
sys.path[:] = [str(root)] + [p for p in sys.path if not p or pathlib.Path(p).resolve() not in
               {checkout, checkout / "handler", checkout / "viewer", checkout / "scripts"}]
import llava_handler
defined = [n for n, c in inspect.getmembers(llava_handler, inspect.isclass) if c.__module__ == "llava_handler"]
assert len(defined) == 1, f"llava_handler.py must define exactly one class, it defines {defined}"
assert not hasattr(llava_handler, "handle"), "llava_handler.py must not have a module-level name `handle`"
import llava_server.engine, llava_wire
for module in (llava_handler, llava_server.engine, llava_wire):
    assert pathlib.Path(module.__file__).resolve().is_relative_to(root), f"{module.__name__} is not the archive's own"
"""


def build(model: str, *, force: bool = False) -> tuple[Path, bool]:
    """The archive of a model, and whether it had to be built."""
    # Inside a worker the same refusals are far down a traceback.
    located = locate_model(model)
    folder, settings, embed = located.folder, located.settings, located.settings.embed_weights
    with as_trouble():
        check_files(folder, settings, located.cure)
    content = read_model_yaml(model)
    content["handler"] |= {"name": settings.name, "model_path": EMBEDDED if embed else str(folder)}
    stamp = {"model": model, "inputs_sha256": _inputs_sha256(content, folder, whole=embed)}
    target = archive(model)
    if not force and _stamp_of(target) == stamp:
        # Made of the same code, settings and model files, so what follows was checked then.
        return target, False
    with as_trouble():
        check_checkpoint(folder, settings, located.cure)
    weights = folder if embed else None
    with _one_at_a_time(target.parent), tempfile.TemporaryDirectory(prefix="lgaze-mar-") as scratch:
        if not force and _stamp_of(target) == stamp:
            return target, False
        built = _archive(model, content, weights, stamp, Path(scratch))
        import_test(built)
        # Into place in one step: a server that starts meanwhile sees the old archive or the new one.
        with writing(MODEL_STORE), replacing(target) as partial:
            shutil.copyfile(built, partial)
    return target, True


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """A second build waits for the first, and then most often finds its archive made."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems lock no folders: there both build, and the later archive stays.
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def import_test(built: Path) -> None:
    """Imports the unpacked archive in a fresh process, where only its own packages are within reach.

    Inside TorchServe a failed import shows up as a missing 'ts.torch_handler.llava_handler', the cause far above.
    """
    with tempfile.TemporaryDirectory(prefix="lgaze-import-") as folder:
        with zipfile.ZipFile(built) as archive_file:
            archive_file.extractall(folder, [n for n in archive_file.namelist() if not n.startswith(f"{EMBEDDED}/")])
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        answer = subprocess.run(
            [sys.executable, "-c", _IMPORT_TEST, folder, str(HANDLER_ROOT.parent)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if answer.returncode != 0:
        cause = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        say(answer.stderr)
        raise SetupError(f"archive: got {cause[0]!r} when imported, expected a clean import; mend the handler's code")


def _archive(model: str, content: dict[str, Any], weights: Path | None, stamp: dict[str, str], folder: Path) -> Path:
    extra, settings, out, scratch = folder / "extra", folder / "model-config.yaml", folder / "out", folder / "tmp"
    for path in (extra, out, scratch):
        path.mkdir()
    # The archiver copies the *contents* of --extra-files: the parent is passed, so that packages keep their names.
    for package in PACKAGES:
        shutil.copytree(HANDLER_ROOT / package, extra / package, ignore=shutil.ignore_patterns("__pycache__"))
    if weights is not None:
        shutil.copytree(weights, extra / EMBEDDED, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    (extra / STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    settings.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if importlib.util.find_spec("model_archiver") is None:
        raise SetupError("torch-model-archiver: got no such package, expected version 0.12.0; run: make setup")
    shutil.copyfile(HANDLER_ROOT / ENTRY, folder / ENTRY)
    # Names relative to the folder: the archiver takes paths apart at commas and colons, and reads `*` and `[`.
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", model, "--version", "1.0"]
    command += ["--handler", ENTRY, "--extra-files", extra.name, "--config-file", settings.name]
    command += ["--export-path", out.name, "--force"]
    # The archiver deletes $TMPDIR/<model name>: it gets a folder of its own.
    env = os.environ | {"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    answer = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    built = out / f"{model}.mar"
    if answer.returncode != 0 or not built.is_file():
        say(answer.stdout + answer.stderr)
        raise SetupError(f"torch-model-archiver: got exit code {answer.returncode}, expected 0; its output is above")
    return built


def _inputs_sha256(content: dict[str, Any], weights: Path, *, whole: bool) -> str:
    """Of everything that the archive is made of or was checked against; weights outside it count by name and size."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for package in ("torch-model-archiver", "transformers"):
        digest.update(importlib.metadata.version(package).encode())
    for path in _inputs(weights):
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        if whole or not path.is_relative_to(weights) or path.suffix in _DESCRIBING:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _inputs(weights: Path) -> Iterator[Path]:
    yield Path(__file__)
    yield HANDLER_ROOT / ENTRY
    for package in PACKAGES:
        yield from sorted(
            p for p in (HANDLER_ROOT / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts
        )
    yield from sorted(p for p in weights.rglob("*") if p.is_file())


def _stamp_of(path: Path) -> dict[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive_file:
            return json.loads(archive_file.read(STAMP))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _arguments() -> argparse.Namespace:
    arguments = parser("Build the TorchServe archive of a model.", "python scripts/build_mar.py llava-things")
    arguments.add_argument("model", help="name of a YAML in model_store, or a folder")
    arguments.add_argument("--force", action="store_true", help="build even when nothing changed")
    return arguments.parse_args()


def main() -> int:
    """The command line."""
    arguments = _arguments()
    MODEL_STORE.mkdir(exist_ok=True)
    path, built = build(adopted(arguments.model, say), force=arguments.force)
    say(f"{'built' if built else 'unchanged'} ({path.stat().st_size / 1e6:.1f} MB)")
    print(shown(path))
    return 0


if __name__ == "__main__":
    run(main)
