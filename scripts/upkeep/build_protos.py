"""Takes TorchServe's gRPC description out of its Java archive and compiles it for the client.

Flow: ts/frontend/model-server.jar -> inference.proto -> protoc -> viewer/llava_viewer/protos/inference.binpb. The
compiled description holds no generated code, so it loads on every version of protobuf.
"""

from __future__ import annotations

import argparse
import importlib.resources
import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

from servekit.paths import ROOT

TARGET = ROOT / "viewer" / "llava_viewer" / "protos"
MEMBERS = ("proto/inference.proto", "google/rpc/status.proto")


def find_jar() -> Path:
    """The Java archive of the installed torchserve package, found without importing it.

    Raises:
        FileNotFoundError: torchserve is not installed.
    """
    spec = importlib.util.find_spec("ts")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        jar = Path(folder) / "frontend" / "model-server.jar"
        if jar.is_file():
            return jar
    raise FileNotFoundError("torchserve: got no model-server.jar, expected an installed torchserve; run `make setup`")


def compile_protos(jar: Path) -> dict[str, bytes]:
    """The files of the client's protos folder, by name.

    Raises:
        RuntimeError: protoc refused the description.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(jar) as archive:
        for member in MEMBERS:
            archive.extract(member, folder)
        compiled = Path(folder) / "inference.binpb"
        status = protoc.main(
            [
                "protoc",
                f"-I{folder}/proto",
                f"-I{folder}",
                f"-I{importlib.resources.files('grpc_tools') / '_proto'}",
                "--include_imports",
                f"--descriptor_set_out={compiled}",
                "inference.proto",
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc: got exit status {status}, expected 0; see its message above")
        return {"inference.proto": archive.read(MEMBERS[0]), "inference.binpb": compiled.read_bytes()}


def main() -> int:
    """The command line."""
    arguments = argparse.ArgumentParser(
        description="Compile TorchServe's gRPC description for the client.",
        epilog="example:\n  python -m upkeep.build_protos --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = arguments.parse_args().check
    try:
        files = compile_protos(find_jar())
    except (FileNotFoundError, ImportError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [
        name for name, data in files.items() if not (TARGET / name).is_file() or (TARGET / name).read_bytes() != data
    ]
    for name in stale:
        if check:
            print(f"error: {name}: got an old file, expected today's; run `make protos`", file=sys.stderr)
        else:
            (TARGET / name).write_bytes(files[name])
            print(TARGET / name)
    print(f"{len(files) - len(stale)} of {len(files)} files were up to date", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
