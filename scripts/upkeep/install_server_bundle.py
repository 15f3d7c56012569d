#!/usr/bin/env python3
"""Installs TorchServe, its archiver and Java from a bundle of `upkeep.make_server_bundle`; needs nothing else.

Flow: site -> this Python's packages (or --target); jar -> model-server.jar again; jre -> a folder whose path is
printed, for JAVA_HOME.
Example: python3 scripts/upkeep/install_server_bundle.py server-bundle.tar.xz --java /opt/java-for-torchserve
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

_ENTRY = """#!{python}
import sys
from model_archiver.model_packaging import generate_model_archive
sys.exit(generate_model_archive())
"""


def repack(folder: Path, jar: Path) -> None:
    """The jar's files as a jar, the manifest first, as Java wants it."""
    first = Path("META-INF/MANIFEST.MF")
    rest = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_STORED) as packed:
        for name in [first, *(name for name in rest if name != first)]:
            packed.write(folder / name, name.as_posix())


def install(bundle: Path, target: Path, programs: Path, java: Path) -> str:
    """Puts everything in its place; what Java says its version is."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(bundle) as packed:
            packed.extractall(scratch, filter="data")
        [folder] = Path(scratch).iterdir()
        shutil.copytree(folder / "site", target, dirs_exist_ok=True)
        repack(folder / "jar", target / "ts" / "frontend" / "model-server.jar")
        shutil.copytree(folder / "jre", java, symlinks=True, dirs_exist_ok=True)
    programs.mkdir(parents=True, exist_ok=True)
    archiver = programs / "torch-model-archiver"
    archiver.write_text(_ENTRY.format(python=sys.executable), encoding="utf-8")
    archiver.chmod(0o755)
    answer = subprocess.run([str(java / "bin" / "java"), "-version"], capture_output=True, text=True, check=True)
    return answer.stderr.splitlines()[0]


def main() -> int:
    """The command line."""
    places = sysconfig.get_paths()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--target", type=Path, default=Path(places["purelib"]), help="packages (%(default)s)")
    parser.add_argument("--programs", type=Path, default=Path(places["scripts"]), help="commands (%(default)s)")
    parser.add_argument("--java", type=Path, default=Path(sys.prefix) / "java-for-torchserve", help="(%(default)s)")
    given = parser.parse_args()
    print(install(given.bundle, given.target, given.programs, given.java), file=sys.stderr)
    print(given.java)
    return 0


if __name__ == "__main__":
    sys.exit(main())
