"""The documents say what the code does: the reading example runs, and tables name every option, code and member."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_server.ask.options import KNOWN
from llava_wire import decode, limits, writing
from llava_wire.codes.quantize import ENCODINGS
from llava_wire.errors import STATUSES
from llava_wire.grids import Grid, Step
from llava_wire.quantity import Quantity
from llava_wire.schema import (
    Annotations,
    Facts,
    Image,
    MethodFacts,
    Model,
    Prompt,
    Query,
    TextFacts,
    Token,
    Turn,
    ViewFacts,
)

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DOCS = Path(__file__).parents[3] / "docs"
RECORDS = sorted((DOCS.parent / "tests" / "data" / "records").glob("v*/*.npz"))
SHOWN = DOCS.parent / "tests" / "data" / "records" / "v2" / "attention.npz"
WIRE, HTTP = ((DOCS / name).read_text("utf-8") for name in ("wire-format.md", "http-api.md"))


def blocks(text: str) -> list[str]:
    """The Python examples of a document."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a header row that starts with `heading`."""
    lines = text.split(f"| {heading} |", 1)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell: str) -> list[str]:
    """The names in back ticks of a table's cell."""
    return re.findall(r"`([^`]+)`", cell)


def numbers(cell: str) -> tuple[int, ...]:
    """The whole numbers of a table's cell."""
    return tuple(int(found.replace(",", "")) for found in re.findall(r"\b\d[\d,]*\b", cell))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_reading_example_reads_kept_records(path: Path) -> None:
    example, _, in_blocks = blocks(WIRE)[:3]
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    assert re.findall(r"^\s*(?:import|from) (\w+)", example, re.MULTILINE) == ["json", "numpy"]
    scope: dict[str, Any] = {}
    exec(compile(example + in_blocks, "wire-format.md", "exec"), scope)
    record = decode(path.read_bytes())
    for index, view in enumerate(record.views.values()):
        if view.kept is not None:
            with pytest.raises(ValueError, match="read_blocks"):
                scope["read_view"](path, index)
        facts, maps, shares, rects = scope["read_view" if view.kept is None else "read_blocks"](path, index)
        np.testing.assert_array_equal(maps, view.patches_float())
        assert (shares is None) == (view.shares is None)
        if shares is not None:
            np.testing.assert_array_equal(shares, view.shares)
        np.testing.assert_array_equal(rects, record.patch_rects())
        assert facts["answer"] == record.answer


def test_the_second_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.npz").write_bytes(SHOWN.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks(WIRE)[:2]), "wire-format.md", "exec"), {})
    record = decode(SHOWN.read_bytes())
    assert capsys.readouterr().out.startswith(record.tokens[2].text)


@pytest.mark.parametrize("name", ["http-api.md", "grpc.md", "wire-format.md"])
def test_every_example_compiles(name: str) -> None:
    for block in blocks((DOCS / name).read_text("utf-8")):
        compile(block, name, "exec")


def test_the_record_table_names_every_key() -> None:
    documented = [names(row[0])[0] for row in table(WIRE, "key | type | what")]
    assert documented[:2] == ["format", "version"]
    fields = Facts.__dataclass_fields__.keys()
    assert sorted(documented) == sorted([*fields, "format", "version", "shares", "views", "texts"])
    view_table = WIRE.split("A view:", 1)[1]
    keys = [name for row in table(view_table, "key | type | what") for name in names(row[0])]
    assert keys == list(ViewFacts.__dataclass_fields__)
    for kind in (Prompt, Turn, Image, Grid, Step, Model, Token, Query, MethodFacts, Quantity, Annotations, TextFacts):
        for field in kind.__dataclass_fields__:
            assert f"`{field}`" in WIRE or f"`{field}[" in WIRE, f"{kind.__name__}.{field}"
    for encoding in ENCODINGS:
        assert f'`"{encoding}"`' in WIRE or f"`{encoding}`" in WIRE


def test_the_stated_limits_are_the_readers() -> None:
    rows = {row[0]: row[1] for row in table(WIRE, "limit | at most")}
    stated = {
        "the file": (limits.MAX_FILE_BYTES >> 20, limits.MAX_MEMBERS, limits.MAX_DIRECTORY_BYTES >> 20),
        "all members inflated": (
            limits.ALWAYS_INFLATED_BYTES >> 20, limits.MAX_INFLATION, limits.MAX_INFLATED_BYTES >> 20,
        ),
        "alternatives": (limits.MAX_ALTERNATIVES,),
        "all maps": (limits.MAX_MAP_VALUES, limits.MAX_MAPS),
        "JSON": (limits.MAX_JSON_BYTES >> 20, limits.MAX_JSON_VALUES),
        "characters of a number": (limits.MAX_NUMBER_CHARS,),
        "a whole number": (limits.MAX_INTEGER,),
        "answer, question, rendered prompt": (limits.MAX_TEXT_CHARS,),
        "any other text": (limits.MAX_PIECE_CHARS,),
        "tokens of the answer": (limits.MAX_TOKENS, limits.MAX_TOKEN_CHARS, limits.MAX_CANDIDATES),
        "ids of the prompt": (limits.MAX_PROMPT_IDS, limits.MAX_PROMPT_CHARS),
        "views": (limits.MAX_VIEWS,),
        "parts of a total": (limits.MAX_PARTS,),
        "notes": (limits.MAX_NOTES,),
        "layers, heads of a model": (limits.MAX_LAYERS,),
        "checks, sampling, software, parameters of a method, run.json": (limits.MAX_PLAIN_VALUES, limits.MAX_DEPTH),
        "an image": (limits.MAX_PICTURE_PIXELS,),
        "px in steps": (limits.MAX_SIDE_PX,),
        "rows, columns of a grid": (limits.MAX_GRID_SIDE,),
        "images": (limits.MAX_IMAGES,),
        "grids": (limits.MAX_GRIDS, limits.MAX_STEPS, limits.MAX_ALL_STEPS, limits.MAX_RUNS),
        "turns of the prompt": (limits.MAX_TURNS,),
        "tags": (limits.MAX_TAGS,),
    }  # fmt: skip
    assert {name: numbers(text) for name, text in rows.items()} == stated
    assert f"deflate level {writing.COMPRESSION_LEVEL}" in WIRE


def test_every_option_is_documented() -> None:
    assert [names(row[0])[0] for row in table(HTTP, "option | values | default")] == list(KNOWN)


def test_every_code_is_documented() -> None:
    rows = table(HTTP, "code | status | when")
    assert {names(row[0])[0]: int(row[1]) for row in rows} == STATUSES
    for row in table(HTTP, "what | HTTP | gRPC | code | field"):
        assert names(row[3])[0] in STATUSES


def test_openapi_says_the_same() -> None:
    document = yaml.safe_load((DOCS / "openapi.yaml").read_text("utf-8"))
    schemas = document["components"]["schemas"]
    assert list(schemas["Options"]["properties"]) == list(KNOWN)
    assert sorted(schemas["Error"]["properties"]["error"]["properties"]["code"]["enum"]) == sorted(STATUSES)
    operation = document["paths"]["/predictions/{model}"]["post"]
    assert {int(status) for status in operation["responses"]} == {200, *STATUSES.values()}
    for found in re.findall(r'\$ref: "#/([^"]+)"', (DOCS / "openapi.yaml").read_text("utf-8")):
        target: Any = document
        for part in found.split("/"):
            target = target[part]
