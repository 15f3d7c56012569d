"""Metrics of other packages come in by an entry point: the tests' toy, and the document's example as it stands."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from llava_eval.metric import METRICS, MetricError, evaluate
from llava_viewer.cli import main
from support.examples import shown_python
from support.installed import installed

DOC = (Path(__file__).parents[3] / "docs" / "own-metric.md").read_text("utf-8")
GRID = np.stack([*np.meshgrid(np.arange(4), np.arange(4)), *np.meshgrid(np.arange(1, 5), np.arange(1, 5))], -1)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, for the modules of a package of somebody else."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


class Needs:
    """A word that needs the patches of the first row."""

    baseline = "mean embedding"

    def log_probs(self, keep: np.ndarray) -> np.ndarray:
        return np.log(0.1 + 0.2 * keep[:, :4].sum(-1))


def test_the_toy_is_listed_and_asks_the_scorer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with installed(tmp_path / "toy", METRICS, "support.toy_metric:DECLARATION"):
        lists_and_scores(capsys)


def lists_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """The command lists it with its parameters; it is found by its name, and refused without a scorer."""
    assert main(["metrics"]) == 0
    [said] = [one for one in capsys.readouterr().out.split("\n\n") if one.startswith("toy_top_alone: ")]
    assert said.splitlines()[1:] == [
        "  higher is better: yes",
        "  needs model: yes",
        "  patches (integer, default 4): How many.",
    ]
    assert main(["metrics", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["toy_top_alone"]["traits"] == {"higher_is_better": True, "needs_model": True}
    assert listed["toy_top_alone"]["parameters"][0]["default"] == 4
    assert set(listed) == set(METRICS.known())

    values = np.zeros((4, 4))
    values[0] = 1
    found = evaluate("toy_top_alone", values, GRID, [(0, 0, 4, 1)], Needs())
    assert found.value == pytest.approx(np.log(0.9 / 0.1))
    fewer = evaluate("toy_top_alone", values, GRID, [(0, 0, 4, 1)], Needs(), {"patches": 1})
    assert fewer.value == pytest.approx(np.log(0.3 / 0.1))
    with pytest.raises(MetricError, match="scorer: got none"):
        evaluate("toy_top_alone", values, GRID, [(0, 0, 4, 1)])


def test_a_package_that_declares_nonsense_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with installed(tmp_path / "broken", METRICS, "no_such_module:DECLARATION"):
        assert main(["metrics"]) == 1
    error = capsys.readouterr().err
    assert "entry point llava_gaze.metrics: mine" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("traits", "says"),
    [
        (
            "{'higher_is_better': True, 'needs_model': False}",
            "got higher_is_better True declared and False in its class",
        ),
        ("{'higher_is_better': False}", "got needs_model None declared and False in its class"),
        ("{'higher_is_better': False, 'needs_model': False}", "got nan, expected a finite number"),
    ],
)
def test_a_metric_that_contradicts_itself_or_gives_no_number_is_refused(site: Path, traits: str, says: str) -> None:
    (site / "liar.py").write_text(
        "from llava_doors.door import Declaration\n"
        f"DECLARATION = Declaration('liar', 'Lies.', 'liar:Liar', traits={traits})\n"
        "class Liar:\n    name, higher_is_better, needs_model = 'liar', False, False\n"
        "    def score(self, *_):\n        return float('nan')\n"
    )
    sys.modules.pop("liar", None)
    with (
        installed(site / "liar", METRICS, "liar:DECLARATION"),
        pytest.raises(MetricError, match=f"metric 'liar': {says}"),
    ):
        evaluate("liar", np.zeros((4, 4)), GRID, [(0, 0, 4, 1)])


def test_the_documents_example_works_as_it_stands(site: Path) -> None:
    file, *uses = re.findall(r"^```python\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    [toml] = re.findall(r"^```toml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    assert len(file.splitlines()) <= 40, "the title promises it"
    (site / "my_metric.py").write_text(file, encoding="utf-8")
    [(group, points)] = tomllib.loads(toml)["project"]["entry-points"].items()
    assert group == METRICS.group
    scope: dict[str, object] = {}
    checked = 0
    with installed(site / "package", METRICS, points["contrast_to_rest"]):
        assert "contrast_to_rest" in METRICS.known()
        for use in uses:
            exec(compile(use, "own-metric.md", "exec"), scope)
            for expression, value in shown_python(use):
                assert eval(expression, scope) == value, expression
                checked += 1
    assert checked == 6


def test_the_document_lists_every_metric() -> None:
    table = DOC.split("| metric | asks |", 1)[1]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(METRICS.known())
