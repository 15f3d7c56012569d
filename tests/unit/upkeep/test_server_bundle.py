"""The bundle for a machine without a network: packages, jar and Java go in, and come out where they belong."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from upkeep import install_server_bundle, make_server_bundle

VERSION = 'openjdk version "17.0.9"'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a jar of two files and a Java that says its version."""
    jar = tmp_path / "model-server.jar"
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/Main.class", b"\xca\xfe")
        packed.writestr("META-INF/MANIFEST.MF", "Main-Class: a.Main\n")
    wheel = tmp_path / "torchserve-0.12.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("ts/__init__.py", "")
        packed.write(jar, make_server_bundle.JAR.as_posix())
    java = tmp_path / "jre" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{VERSION}' >&2\n")
    java.chmod(0o755)
    folder = tmp_path / make_server_bundle.NAME
    make_server_bundle.fill(folder, [wheel], tmp_path / "jre")
    assert not (folder / "site" / make_server_bundle.JAR).exists()
    path = tmp_path / "bundle.tar.xz"
    with tarfile.open(path, "w:xz") as packed:
        packed.add(folder, make_server_bundle.NAME)
    return path


def test_what_was_packed_is_installed(bundle: Path, tmp_path: Path) -> None:
    target, programs, java = (tmp_path / "there" / name for name in ("site", "bin", "java"))
    assert install_server_bundle.install(bundle, target, programs, java) == VERSION
    with zipfile.ZipFile(target / make_server_bundle.JAR) as jar:
        assert jar.namelist() == ["META-INF/MANIFEST.MF", "a/Main.class"], "Java wants the manifest first"
        assert jar.read("a/Main.class") == b"\xca\xfe"
    assert (programs / "torch-model-archiver").read_text().startswith(f"#!{sys.executable}\n")


def test_the_installer_needs_the_standard_library_alone(bundle: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", install_server_bundle.__file__, str(bundle)]
    for name in ("target", "programs", "java"):
        words += [f"--{name}", str(tmp_path / "bare" / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(tmp_path / "bare" / "java")


def test_the_versions_are_those_of_the_project() -> None:
    constraints = (make_server_bundle.ROOT / "constraints.txt").read_text("utf-8")
    names = make_server_bundle.pinned(constraints)
    assert [name.partition("==")[0] for name in names] == list(make_server_bundle.PACKAGES)
    assert make_server_bundle.pinned("torch==2\n") == []
