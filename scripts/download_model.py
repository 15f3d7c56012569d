"""Fetches a model's weights at the pinned revision, or takes them from a local folder, and checks them.

Flow: model YAML (source, revision, sha256) -> size shown -> hub or folder -> model_store/weights/<model>/ -> digests
checked -> the folder on stdout. What is there and right already is not fetched or copied again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llava_server.ask.settings import ModelSettings
from llava_server.load.checkpoint import check_checkpoint, check_configuration
from llava_wire.system.replacing import replacing
from servekit.cli import parser, run, say
from servekit.models import as_trouble, locate_model
from servekit.paths import SetupError, shown

PATTERNS = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "LICENSE*", "README.md")
"""What a checkpoint of the published layout needs; other formats of the same weights stay where they are."""
_CHUNK_BYTES = 1 << 24


def download(model: str, *, source_folder: Path | None = None) -> Path:
    """The checked weights folder of a model.

    Args:
        source_folder: a local copy to take instead of the hub's.

    Raises:
        SetupError: when a source is missing, offline, incomplete, not what the YAML promises, or no model to serve.
    """
    located = locate_model(model)
    settings, folder = located.settings, located.folder
    if located.origin in ("model_path", "source"):
        if source_folder is not None:
            raise SetupError(
                f"FROM: got {str(source_folder)!r} for {model}, whose weights are at handler.{located.origin}, "
                f"expected for a model of the hub; set handler.model_path: {source_folder.resolve()} instead"
            )
        say(f"{model} has its weights at handler.{located.origin}; nothing to download, they are checked")
    elif source_folder is not None:
        _copy(source_folder, folder, settings)
    elif located.origin == "hub":
        _fetch(settings, folder)
    with as_trouble():
        check_checkpoint(folder, settings, located.cure)
    verify(folder, settings.sha256)
    return folder


def verify(folder: Path, sha256: Mapping[str, str]) -> None:
    """Every file with a known digest must be there and have it; a wrong one is named, not deleted."""
    for name, expected in sha256.items():
        path = folder / name
        if not path.is_file():
            raise SetupError(f"{name}: got no such file in {shown(folder)}, expected a whole checkpoint; run it again")
        say(f"checking {name} ({_gb(path.stat().st_size)})")
        found = digest(path)
        if found != expected:
            raise SetupError(f"{name}: got sha256 {found}, expected {expected}; delete {shown(path)} and run it again")


def digest(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            found.update(piece)
    return found.hexdigest()


def _copy(source: Path, folder: Path, settings: ModelSettings) -> None:
    if not source.is_dir():
        raise SetupError(f"--from: got {str(source)!r}, expected an existing folder; check the path")
    # Before gigabytes are copied that could not be served.
    with as_trouble():
        check_checkpoint(source, settings, "complete it, or name another folder")
    files = [p for p in sorted(source.iterdir()) if p.is_file() and any(fnmatch(p.name, one) for one in PATTERNS)]
    missing = sorted(set(settings.sha256) - {p.name for p in files})
    if missing:
        raise SetupError(
            f"--from: got {str(source)!r} without {', '.join(missing)}, expected a whole checkpoint; complete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() == folder.resolve():
        return
    for left in folder.glob("*.partial"):  # of a copy that was killed
        left.unlink()
    say(f"{len(files)} files, {_gb(sum(p.stat().st_size for p in files))}, from {source}")
    for path in files:
        final = folder / path.name
        if final.is_file() and final.stat().st_size == path.stat().st_size and digest(final) == digest(path):
            say(f"kept {path.name}")
            continue
        # Under another name until it is whole: an interrupted copy is never taken for a model.
        with replacing(final) as partial:
            shutil.copyfile(path, partial)
        say(f"copied {path.name} ({_gb(path.stat().st_size)})")


def _fetch(settings: ModelSettings, folder: Path) -> None:
    source, revision = settings.source, settings.revision
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise SetupError(
            f"revision: got {revision!r}, expected the 40 hexadecimal digits of a commit; pin it in the YAML"
        )
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        listing: Any = HfApi().model_info(source, revision=revision, files_metadata=True, timeout=30)
        wanted = [f for f in listing.siblings or [] if any(fnmatch(f.rfilename, one) for one in PATTERNS)]
        total = sum(f.size or 0 for f in wanted)
        say(f"{source} at {revision}: {len(wanted)} files, {_gb(total)}, into {shown(folder)}")
        _require_room(folder, total)
        # Before gigabytes are fetched that could not be served.
        snapshot_download(source, revision=revision, local_dir=folder, allow_patterns=["*.json"])
        with as_trouble():
            check_configuration(folder, settings, f"choose another handler.source than {source}")
        # Resumes by itself: finished files stay, unfinished ones go on where they stopped.
        snapshot_download(source, revision=revision, local_dir=folder, allow_patterns=list(PATTERNS))
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _no_answer(error) from error
    except Exception as error:
        # The hub's client passes its transport's own exceptions on, whose module changes between its versions.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpcore", "httpx2", "httpcore2", "requests"):
            raise
        raise _no_answer(error) from error


def _no_answer(error: Exception) -> SetupError:
    reason = (str(error).splitlines() or [""])[0][:200]
    return SetupError(
        f"download: got {type(error).__name__} ({reason}), expected an answer from the hub; check the network, run it "
        "again (it resumes), or bring a copy: make download MODEL=NAME FROM=FOLDER"
    )


def _require_room(folder: Path, total_bytes: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    have = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(existing).free
    if free < total_bytes - have:
        raise SetupError(f"disk: got {_gb(free)} free, expected at least {_gb(total_bytes - have)}; make room")


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 10_000_000 else f"{size_bytes / 1e6:.2f} MB"


def main() -> int:
    """The command line."""
    arguments = parser(
        "Fetch a model's weights at the pinned revision and check them.",
        "python scripts/download_model.py llava-1.5-7b\n"
        "  python scripts/download_model.py llava-1.5-7b --from ~/models/llava-1.5-7b-hf",
    )
    arguments.add_argument("model", help="name of a YAML in model_store")
    arguments.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="take a local copy instead")
    given = arguments.parse_args()
    print(shown(download(given.model, source_folder=given.source)))
    return 0


if __name__ == "__main__":
    run(main)
