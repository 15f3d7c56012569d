"""TorchServe, its archiver and a Java runtime as one file of about 40 MB, for a GPU machine that reaches no network.

Flow: the pinned wheels from pip, a small Java from jlink -> unpacked, so that they compress well ->
server-bundle.tar.xz, for `install_server_bundle.py`. Needs jlink of a JDK 17 (Debian: openjdk-17-jdk-headless).
Example: python -m upkeep.make_server_bundle --out server-bundle.tar.xz
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from servekit.cli import run, say
from servekit.paths import ROOT, SetupError, shown

NAME = "server-bundle"
PACKAGES = ("torchserve", "torch-model-archiver")
JAR = Path("ts/frontend/model-server.jar")
_MODULES = (
    "java.base", "java.desktop", "java.instrument", "java.logging", "java.management", "java.naming", "java.net.http",
    "java.security.jgss", "java.security.sasl", "java.sql", "java.xml", "jdk.crypto.ec", "jdk.management",
    "jdk.unsupported", "jdk.zipfs",
)  # fmt: skip
"""What TorchServe's front end needs of Java, and what the libraries in its jar ask for when they start."""


def pinned(constraints: str) -> list[str]:
    """The packages with their versions, as constraints.txt has them."""
    found = [re.search(rf"^{name}==\S+", constraints, re.MULTILINE) for name in PACKAGES]
    return [match[0] for match in found if match]


def fill(folder: Path, wheels: list[Path], java: Path) -> None:
    """Lays out the bundle: `site` with the packages, `jar` with the front end's jar unpacked, `jre`."""
    site, jar = folder / "site", folder / "jar"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
    # What lies in the jar is deflated; unpacked, xz makes much less of it.
    with zipfile.ZipFile(site / JAR) as packed:
        packed.extractall(jar)
    (site / JAR).unlink()
    shutil.copytree(java, folder / "jre", symlinks=True)


def small_java(folder: Path) -> Path:
    """A runtime of the modules that are needed, uncompressed."""
    program = shutil.which("jlink")
    if program is None:
        raise SetupError("jlink: got none on the PATH, expected that of a JDK 17 or later; apt-get install a JDK")
    target = folder / "jre"
    options = ["--compress=0", "--strip-debug", "--no-man-pages", "--no-header-files"]
    subprocess.run([program, *options, "--add-modules", ",".join(_MODULES), "--output", str(target)], check=True)
    return target


def fetched(folder: Path) -> list[Path]:
    """The pinned wheels, downloaded."""
    names = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    if len(names) != len(PACKAGES):
        raise SetupError(f"constraints.txt: got {names}, expected a version of each of {', '.join(PACKAGES)}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), *names], check=True)
    return sorted(folder.glob("*.whl"))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu" / f"{NAME}.tar.xz", help="(%(default)s)")
    out: Path = parser.parse_args().out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = fetched(Path(scratch) / "wheels")
        java = small_java(Path(scratch))
        folder = Path(scratch) / NAME
        fill(folder, wheels, java)
        say("packing, a minute or more")
        with tarfile.open(out, "w:xz") as packed:
            packed.add(folder, NAME)
    say(f"{out.stat().st_size / 1e6:.0f} MB")
    print(shown(out))
    return 0


if __name__ == "__main__":
    run(main)
