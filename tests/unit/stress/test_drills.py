"""The drills' bookkeeping: recovery is measured from the fault to ordinary answers, and the page shows the figures."""

from __future__ import annotations

import json

import pytest

from stress.drill import FIGURES, PAGE
from stress.drills.scene import _recovered
from stress.drills.table import replaced, table


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        ([(0, 0.1, "right"), (11, 11.1, "right")], 0.0),
        ([(0, 5, "right"), (11, 11.1, "right")], 0.0),
        ([(9.9, 14, "right"), (14.1, 14.2, "right")], 4.0),
        ([(9.9, 12, "worker_died (500)"), (12.1, 15, "right"), (15.1, 15.2, "right")], 5.0),
        ([(11, 12, "unavailable (503)"), (12.1, 12.2, "right")], 2.2),
        ([(11, 12, "got tokens [1], expected [2]")], float("inf")),
    ],
)
def test_recovery(seen: list[tuple[float, float, str]], seconds: float) -> None:
    assert _recovered(seen, 10.0) == pytest.approx(seconds)


def test_the_page_shows_the_measured_figures() -> None:
    rows = json.loads(FIGURES.read_text("utf-8"))["rows"]
    page = PAGE.read_text("utf-8")
    assert table(rows) in page
    assert replaced(page, rows) == page
    assert len(rows) >= 10
    assert [row["fault"] for row in rows if row["lost"]] == []
