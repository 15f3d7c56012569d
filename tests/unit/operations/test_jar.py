"""The versions that docs/torchserve-jar.md names are those in the jar that is installed."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servekit.paths import ROOT

PAGE = ROOT / "docs" / "torchserve-jar.md"


@pytest.fixture(scope="module")
def jar() -> Iterator[zipfile.ZipFile]:
    """The one jar of TorchServe."""
    found = importlib.util.find_spec("ts")
    assert found is not None
    [path] = (Path(str(found.origin)).parent / "frontend").glob("*.jar")
    with zipfile.ZipFile(path) as file:
        yield file


@pytest.mark.parametrize(
    ("library", "member", "pattern"),
    [
        ("Netty", "META-INF/io.netty.versions.properties", rb"netty-codec-http\.version=(\S+)"),
        ("gRPC for Java", "io/grpc/internal/GrpcUtil.class", rb"\x00\x06(\d+\.\d+\.\d+)\x01"),
        ("Log4j", "META-INF/DEPENDENCIES", rb"log4j-core:jar:(\S+)"),
        ("Gson", "com/google/gson/internal/GsonBuildConfig.class", rb"\x00\x06(\d+\.\d+\.\d+)"),
        ("Groovy", "META-INF/groovy-release-info.properties", rb"ImplementationVersion=(\S+)"),
        ("Ant", "org/apache/tools/ant/version.txt", rb"VERSION=(\S+)"),
    ],
)
def test_what_the_jar_says_is_what_the_page_says(
    jar: zipfile.ZipFile, library: str, member: str, pattern: bytes
) -> None:
    found = re.search(pattern, jar.read(member))
    assert found is not None
    version = re.escape(found.group(1).decode())
    assert re.search(rf"{library} {version}\b|\| {library} \| {version} \| says ", PAGE.read_text("utf-8"))


def test_what_is_said_not_to_be_there_is_not(jar: zipfile.ZipFile) -> None:
    names = jar.namelist()
    assert not [name for name in names if name.startswith("org/apache/log4j/")]
    assert not [name for name in names if name.startswith("META-INF/maven/")]
    decoders = (b"HttpContentDecompressor", b"Http2", b"SniHandler", b"HAProxy")
    pipeline = jar.read("org/pytorch/serve/ServerInitializer.class")
    assert b"HttpObjectAggregator" in pipeline
    assert not [decoder for decoder in decoders if decoder in pipeline]
