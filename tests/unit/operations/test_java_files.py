"""What Java reads: properties with any path in them, and log settings that no path can change."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from servekit.java.files import is_plain, java_options, lay_out, write_properties
from servekit.java.find import find_java
from servekit.paths import SetupError
from servekit.preflight import require_readable_paths

READER = """
import java.io.*; import java.util.*;
public class Reader {
    public static void main(String[] given) throws Exception {
        for (String name : given) {
            Properties read = new Properties();
            try (InputStream file = new FileInputStream(name)) { read.load(file); }
            for (char unit : read.getProperty("metrics_config").toCharArray()) System.out.printf("%04x", (int) unit);
            System.out.println(" " + read.getProperty("metrics_mode"));
        }
    }
}
"""
PATHS = [
    "/home/jürgen/ガゼ/llava gaze", "/a=b:c#d!e", "/back\\slash\\u0041", " /begins/with/a/blank", "/quotes'\"`$x",
    "/\N{FACE WITH TEARS OF JOY}", "/tab\tand\nline", "/per%20cent%d", "/ends with a blank ",
]  # fmt: skip


@pytest.fixture(scope="module")
def java() -> str:
    """A Java that compiles one file and runs it; the one of Python packages cannot."""
    home = find_java(dict(os.environ)).home
    if not (home / "bin" / "javac").exists():
        pytest.skip("no Java compiler: apt-get install openjdk-17-jdk-headless")
    return str(home / "bin" / "java")


def test_java_reads_every_path_as_it_is(java: str, tmp_path: Path) -> None:
    (tmp_path / "Reader.java").write_text(READER)
    files = [tmp_path / f"{number}.properties" for number in range(len(PATHS))]
    for file, path in zip(files, PATHS, strict=True):
        write_properties(file, {"metrics_config": path, "metrics_mode": "prometheus"})
    command = [java, str(tmp_path / "Reader.java"), *map(str, files)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert {line.split(" ")[1] for line in said} == {"prometheus"}
    assert [bytes.fromhex(line.split(" ")[0]).decode("utf-16-be") for line in said] == PATHS


def test_a_properties_file_is_ascii_and_escapes_of_the_users_own_stand(tmp_path: Path) -> None:
    file = tmp_path / "config.properties"
    write_properties(file, {"allowed_urls": "file:///\\u00e9/é", "certificate_file": "/a\\b"})
    assert file.read_bytes() == b"allowed_urls=file:///\\u00e9/\\u00e9\ncertificate_file=/a\\\\b\n"


def test_log_settings_lie_at_a_plain_path_whatever_the_log_folder_is_called(tmp_path: Path) -> None:
    scratch, logs = tmp_path / "scratch", tmp_path / "a, %d{yy} ${env:HOME} é"
    for folder in (scratch, logs):
        folder.mkdir()
    settings, way = lay_out(scratch, logs)
    assert settings.read_text("utf-8").startswith("<?xml")
    assert settings.parent == way.parent == scratch
    (way / "x").write_text("x")
    assert (logs / "x").read_text() == "x"
    assert f"-Djava.util.logging.config.file={scratch}/logging.properties" in java_options("-Xmx1g", scratch).split()
    assert (scratch / "logging.properties").exists()
    assert is_plain("/tmp/lgaze-x_1.y")
    for path in ("/tmp/a b", "/tmp/é", "/tmp/a,b", "/tmp/%d", "/tmp/${x}", "/tmp/a:b"):
        assert not is_plain(path)


def test_paths_that_java_cannot_be_told() -> None:
    require_readable_paths([Path("/a b/é=:#")], Path("/a b/é=#/ts/__init__.py"))
    with pytest.raises(SetupError, match=r"path: got torchserve in /a:b/ts, expected a place without a colon"):
        require_readable_paths([], Path("/a:b/ts/__init__.py"))
    with pytest.raises(SetupError, match=r"path: got '/\\udce9', expected names in UTF-8"):
        require_readable_paths([Path("/\udce9")], Path("/ts/__init__.py"))
