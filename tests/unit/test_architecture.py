"""The house: rooms as docs/design.md lists them, imports that run one way, folders and files of a size to read."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")
FAMILIES = ROOT / "docs" / "families.md"
HOUSES = {
    **dict.fromkeys(("llava_wire", "llava_doors", "llava_server"), "handler"),
    "llava_eval": "viewer",
    "llava_viewer": "viewer",
    **dict.fromkeys(("servekit", "teach", "shapes", "things", "bench", "stress", "upkeep"), "scripts"),
}
VERBS = sorted((ROOT / "scripts").glob("*.py"))
MOST_MODULES = 14
MOST_LINES = 320


def modules() -> dict[str, Path]:
    """Every module of the houses by its dotted name; packages by theirs; the verbs of scripts."""
    found = {path.stem: path for path in VERBS}
    for house, root in HOUSES.items():
        for path in sorted((ROOT / root / house).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the houses that a module imports, also those within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(known)
            if node.module in known and inner - set(known):
                found.add(node.module)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """What is left of a graph when everything that leads nowhere has been taken out, again and again."""
    left = {name: set(found) - {name} for name, found in graph.items()}
    while ends := {name for name, found in left.items() if not found}:
        left = {name: found - ends for name, found in left.items() if name not in ends}
    return sorted([name, *sorted(found)] for name, found in left.items())


def test_no_circle_of_imports() -> None:
    known = modules()
    assert circles({name: imports(path, known) for name, path in known.items()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()})


def test_every_folder_of_scripts_is_a_house() -> None:
    there = {path.name for path in (ROOT / "scripts").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there == {house for house, root in HOUSES.items() if root == "scripts"}
    named = {*HOUSES, *(path.stem for path in VERBS)}
    assert not named & set(sys.stdlib_module_names)
    for name in named:
        found = importlib.util.find_spec(name)
        assert found is not None, name
        assert Path(found.origin or "").is_relative_to(ROOT), f"{name}: {found.origin} stands before it"


def test_folders_and_files_of_a_size_to_read() -> None:
    assert len(VERBS) <= MOST_MODULES
    for house, root in HOUSES.items():
        for folder in {path.parent for path in (ROOT / root / house).rglob("*.py")}:
            names = [path.name for path in folder.glob("*.py") if not path.name.startswith("__")]
            assert len(names) <= MOST_MODULES, f"{folder.relative_to(ROOT)}: {len(names)} modules"
    for path in modules().values():
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(ROOT)}: {lines} lines"


def test_the_rooms_are_those_of_the_design() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| ((?:`\w+`,? ?)+) \|", DESIGN, re.MULTILINE)
    listed = {room: set(re.findall(r"`(\w+)`", names)) for room, names in rows}
    there: dict[str, set[str]] = {"scripts": {path.stem for path in VERBS}}
    for house, root in HOUSES.items():
        for path in (ROOT / root / house).rglob("*.py"):
            if not path.name.startswith("__"):
                there.setdefault(path.parent.relative_to(ROOT / root).as_posix(), set()).add(path.stem)
    families = there.pop("llava_doors/families")  # a family more touches its own page alone
    assert f"| `llava_doors/families` | those of [{FAMILIES.name}]({FAMILIES.name}) |" in DESIGN
    assert {name for name in families if f"`{name}`" not in FAMILIES.read_text("utf-8")} == set()
    assert listed == there


@pytest.fixture
def lint() -> str:
    """import-linter's command."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed")
    return command


def linted(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the packages below a folder."""
    return subprocess.run(
        [command, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={
            "PYTHONPATH": f"{root / 'handler'}:{root / 'viewer'}:{root / 'scripts'}",
            "PATH": str(Path(command).parent),
        },
    )


def test_the_contracts_hold(lint: str) -> None:
    done = linted(lint, ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "0 broken" in done.stdout


def test_imports_that_run_upward_break_a_contract(lint: str, tmp_path: Path) -> None:
    upward = {
        "handler/llava_wire/schema.py": ("llava_wire.record", "The wire format's modules import downward only"),
        "handler/llava_server/ask/plan.py": ("llava_server.run.batch", "The server's rooms import downward only"),
        "handler/llava_server/attend/rows.py": ("llava_server.read.chat", "The server's rooms import downward only"),
        "viewer/llava_viewer/look/text.py": ("llava_viewer.pages.report", "The viewer's rooms import downward only"),
        "viewer/llava_viewer/client/words.py": (
            "llava_viewer.client.base",
            "The client's modules import downward only",
        ),
        "viewer/llava_eval/truth.py": ("llava_eval.box_rule", "What measures maps imports downward only"),
        "viewer/llava_eval/statistics.py": ("llava_viewer.files", "Metrics need the standard library and numpy only"),
        "viewer/llava_viewer/files.py": ("llava_server.engine", "The viewer never imports the server"),
        "scripts/servekit/java/files.py": (
            "servekit.watch.notify",
            "The modules of a server's life import downward only",
        ),
        "scripts/servekit/tls.py": ("bench.table", "The rooms of scripts import downward only"),
        "scripts/servekit/ports.py": ("build_mar", "A server's life and the small models' worlds need no verb"),
        "scripts/upkeep/make_golden.py": ("demo", "Programs need one verb"),
        "scripts/bench/parts/timing.py": ("bench.gpu.findings", "The benchmarks import downward only"),
        "scripts/stress/crowding/calls.py": ("stress.soaking.cases", "The stress programs import downward only"),
        "handler/llava_server/engine.py": ("servekit.paths", "What is served and what is installed knows nothing"),
        "handler/llava_wire/limits.py": ("torch", "The wire format needs the standard library and numpy only"),
    }
    for folder in ("handler", "viewer", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, (module, _) in upward.items():
        path = tmp_path / file
        path.write_text(path.read_text("utf-8") + f"\nimport {module}  # noqa\n", encoding="utf-8")
    done = linted(lint, tmp_path)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    for contract in {contract for _, contract in upward.values()}:
        assert re.search(rf"^{contract}.* BROKEN", done.stdout, re.MULTILINE), contract
