"""Criteria for heads: values known by hand, ties shared, and a slow flood fill beside the fast components."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from llava_doors.door import DoorError
from llava_eval.criteria.localization import above_elbow, lowest_shared, spatial_entropy
from llava_eval.criterion import CRITERIA, TRAITS, WordMaps, criterion
from llava_eval.truth import as_truth
from llava_viewer.cli import main
from support.installed import installed

DOC = (Path(__file__).parents[3] / "docs" / "heads.md").read_text("utf-8")

X, Y = np.meshgrid(np.arange(0, 40, 10.0), np.arange(0, 40, 10.0))
RECTS = np.stack([X, Y, X + 10, Y + 10], -1).reshape(-1, 4)
"""4 x 4 patches of 10 px."""
GRIDS = ((4, 4),)


def lit(*patches: int, count: int = 16) -> np.ndarray:
    """A map with 1 at some patches."""
    values = np.zeros(count)
    values[list(patches)] = 1
    return values


def word(*maps: np.ndarray, box: tuple[float, ...] | None = None, contributions: np.ndarray | None = None) -> WordMaps:
    """A word of a model with one layer."""
    truth = None if box is None else as_truth([box])
    return WordMaps(np.stack(maps)[None], GRIDS, RECTS, truth, contributions)


def test_declarations_say_what_is_needed() -> None:
    assert set(CRITERIA.known()) == {"pointing", "agreement", "localization"}
    for one in CRITERIA.known().values():
        assert set(one.traits) == set(TRAITS)
    with pytest.raises(DoorError, match=r"weigh: got 'arae', expected one of .* did you mean 'area'"):
        criterion("localization", {"weigh": "arae"})
    with pytest.raises(DoorError, match="at least 1"):
        criterion("localization", {"lowest": 0})


def test_pointing_shares_ties_and_leaves_out_what_no_patch_stands_for() -> None:
    pointing = criterion("pointing")
    maps = (lit(5), lit(0), lit(5, 0), np.zeros(16))
    found = pointing.measure(word(*maps, box=(10, 10, 20, 20)))
    assert found is not None
    assert pointing.scores(found[None])[0, 0].tolist() == [1, 0, 0.5, 1 / 16]
    assert pointing.measure(word(*maps)) is None
    assert pointing.measure(word(*maps, box=(11, 11, 13, 13))) is None, "no centre lies in it"


def test_agreement_is_the_correlation_over_patches() -> None:
    agreement, rng = criterion("agreement"), np.random.default_rng(0)
    contributions, noise = rng.normal(size=16), rng.random(16)
    found = agreement.measure(
        word(3 * contributions + 7, -contributions, noise, np.full(16, 0.3), contributions=contributions)
    )
    assert found is not None
    expected = [1, -1, np.corrcoef(noise, contributions)[0, 1], 0]
    np.testing.assert_allclose(agreement.scores(found[None])[0, 0], expected, atol=1e-12)
    assert agreement.measure(word(noise)) is None
    assert agreement.measure(word(noise, contributions=np.ones(16))) is None, "flat contributions rank nothing"


def flood_fill(on: np.ndarray) -> list[list[tuple[int, int]]]:
    """The connected components of 8 neighbours, one patch after another."""
    left = {(int(row), int(col)) for row, col in zip(*np.nonzero(on), strict=True)}
    found = []
    while left:
        edge, part = [left.pop()], []
        while edge:
            row, col = edge.pop()
            part.append((row, col))
            near = {(row + down, col + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(part)
    return found


@pytest.mark.parametrize("weigh", ["area", "mass"])
def test_spatial_entropy_against_a_flood_fill(weigh: str) -> None:
    maps = np.random.default_rng(3).random((60, 7 * 9)) ** 2
    expected = []
    for values in maps:
        above = (values - values.mean()).reshape(7, 9)
        sizes = [sum(above[cell] for cell in part) if weigh == "mass" else len(part) for part in flood_fill(above > 0)]
        shares = np.array(sizes) / sum(sizes)
        expected.append(-(shares * np.log(shares)).sum())
    assert len({round(one, 3) for one in expected}) > 20
    np.testing.assert_allclose(spatial_entropy(maps, ((7, 9),), weigh), expected, atol=1e-12)


def test_spatial_entropy_of_known_maps() -> None:
    snake = lit(0, 1, 2, 3, 7, 11, 10, 9, 8)
    maps = np.stack([lit(5), lit(0, 5, 10), lit(0, 2, 3, 7), snake, np.zeros(16), np.full(16, 0.1)])
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert spatial_entropy(maps, GRIDS) == pytest.approx([0, 0, quarter, 0, np.inf, np.inf])
    # The last patch of one grid and the first of the next are not neighbours; in one grid of 8 x 2 they are.
    neighbours = lit(7, 8)
    assert spatial_entropy(neighbours, ((4, 2), (4, 2))) == pytest.approx(np.log(2))
    assert spatial_entropy(neighbours, ((8, 2),)) == pytest.approx(0)


def test_the_elbow_and_the_lowest() -> None:
    assert above_elbow(np.array([0.9, 0.1, 0.12, 0.8, 0.11, 0.13])).tolist() == [True, False, False, True, False, True]
    assert above_elbow(np.full(4, 0.3)).all()
    assert lowest_shared(np.array([3.0, 1.0, 2.0]), 2).tolist() == [0, 1, 1]
    assert lowest_shared(np.array([0.0, 0.0, 0.0, 5.0]), 2) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0])
    assert lowest_shared(np.array([1.0, 2.0, 2.0, np.inf]), 2).tolist() == [1, 0.5, 0.5, 0]
    assert lowest_shared(np.array([np.inf, 4.0]), 2).tolist() == [0, 1]
    assert lowest_shared(np.full(2, np.inf), 1).tolist() == [0, 0]


def test_localization_chooses_among_heads_that_read_the_image() -> None:
    """Five of nine heads lie at the elbow or above and three of them are chosen, sharp ones that read little not."""
    far, near, spread = lit(0, 10), lit(0, 1, 5), lit(0, 2, 8, 15)
    heads = [share * one / one.sum() for share, one in ((0.9, far), (0.88, near), (0.88, near), (0.85, spread))]
    heads += [share * lit(5) for share in (0.01, 0.02, 0.03, 0.04, 0.05)]
    localization = criterion("localization")
    measured = localization.measure(word(*heads))
    assert measured is not None
    assert localization.scores(np.stack([measured] * 3)).mean(0)[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 1]
    fewest = criterion("localization", {"lowest": 1})
    assert fewest.scores(measured[None])[0, 0].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 0, 0, 0, 0, 1 / 3])


def test_the_documents_table_lists_every_criterion() -> None:
    table = DOC.split("| criterion | score", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(CRITERIA.known())


def test_the_documents_own_criterion_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = re.findall(r"^```python\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_criterion.py").write_text(file, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_criterion", None)
    with installed(tmp_path / "package", CRITERIA, "my_criterion:DECLARATION"):
        assert main(["criteria"]) == 0
        assert "sharpest: How much of a map its strongest patch has." in capsys.readouterr().out
        sharpest = criterion("sharpest")
        measured = sharpest.measure(word(lit(3), lit(3, 4), np.zeros(16)))
        assert measured is not None
        assert sharpest.scores(measured[None])[0, 0].tolist() == [1, 0.5, 0]
