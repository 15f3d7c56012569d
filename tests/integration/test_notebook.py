"""docs/notebook.ipynb runs from top to bottom in a real kernel and shows what its text says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
ROOT = Path(__file__).resolve().parents[2]


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [str(ROOT / name) for name in ("handler", "viewer")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": ROOT / "docs"}}
    )
    client.execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in shown if output.get("name") == "stdout")
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    assert "red" in printed
    assert "(8, 8) float32" in printed
    assert "brightest patch: row" in printed
    reports = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert len(reports) == 1
    assert "<iframe" in reports[0]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
