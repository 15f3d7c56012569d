"""What a map is worth: one verdict for each kind of map, sinks by the one rule, what the other words have there."""

from __future__ import annotations

import numpy as np
import pytest

from llava_viewer.look.frames import FLAT_TIMES, LOW_IMAGE_SHARE
from llava_viewer.look.wording import NBSP, map_verdict
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.report import render_report
from llava_viewer.usual import others_times, sinks_of, verdict_of
from support.planted import SINK, SUNK, make_sunk
from support.several import make_several, make_signed
from support.synthetic import make_record


def map_of(peak: float) -> np.ndarray:
    """A map of 16 patches that adds up to 0.4, its brightest patch the sixth."""
    values = np.full((4, 4), (0.4 - peak) / 15, np.float32)
    values[1, 1] = peak
    return values


@pytest.mark.parametrize(
    ("peak", "share", "times", "sink", "line"),
    [
        (0.2, 0.049, 9.0, 5, "○ weak: only 4.9 % of the attention is on the image. Sinks (×) hold 50 % of this map."),
        (0.2, 0.05, 9.0, None, "◆ particular: its brightest patch has 9.0 × what the other words have there."),
        (0.049, 0.4, 9.0, None, "≈ even: its brightest patch has only 2.0 × an even share."),
        (0.2, 0.4, 9.0, 5, ("× sink: nearly every word of the answer reads its brightest patch. "
            "Sinks (×) hold 50 % of this map.")),
        (0.25, 0.4, 2.0, 0, ("◆ particular: its brightest patch has 2.0 × what the other words have there. "
            "Sinks (×) hold 2.5 % of this map.")),
        (0.2, 0.4, 1.9, None, "= usual: its brightest patch has 1.9 × what the other words have there."),
        (0.2, 0.4, None, None, ""),
    ],
)  # fmt: skip
def test_every_kind_of_map_has_its_verdict(
    peak: float, share: float, times: float | None, sink: int | None, line: str
) -> None:
    sinks = None if sink is None else np.arange(16).reshape(4, 4) == sink
    found = verdict_of(map_of(peak), share, times, sinks, LOW_IMAGE_SHARE, FLAT_TIMES)
    assert map_verdict(*found, "the image").replace(NBSP, " ") == line


def test_what_the_other_words_have_there() -> None:
    values = np.random.default_rng(3).random((6, 4, 4)).astype(np.float32) ** 3
    found = others_times(values, [0, 1, 2, 4])
    for row in range(6):
        others = sum(values[other] for other in (0, 1, 2, 4) if other != row)
        peak = values[row].argmax()
        wanted = (values[row].flat[peak] / values[row].sum()) / (others.flat[peak] / others.sum())
        assert found[row] == pytest.approx(wanted, rel=1e-5), row
    assert others_times(values, [0, 1]) == [None] * 6, "two words have no usual map"
    values[0] = 0
    assert others_times(values, [0, 1, 2, 4])[0] is None


def test_sinks_are_found_marked_and_told() -> None:
    record = make_sunk(seed=5)
    found = sinks_of(record, record.views["none"])
    assert found is not None
    assert np.flatnonzero(found).tolist() == [SINK]
    assert sinks_of(record, record.views["all"]) is None, "one map for a whole answer"
    panel, *_, whole = build_report(record).views
    assert panel.sinks == ((2, 4),)
    assert not whole.sinks
    verdicts = [frame.verdict.split(":")[0] for frame in panel.slots[0].frames]
    assert verdicts[SUNK] == "× sink"
    assert verdicts[1] == "◆ particular"
    page = render_report(record)
    assert '<use href="#sk" x="4" y="2"/>' in page
    assert "that nearly every word of this answer reads" in page


def test_few_words_and_other_quantities_have_no_sinks() -> None:
    record = make_record(words=("A", " red", " cup"))
    assert sinks_of(record, record.views["layers_heads"]) is None
    signed = make_signed()
    panels = {panel.name: panel for panel in build_report(signed).views}
    assert all(not frame.verdict for frame in panels["signed"].slots[0].frames)
    assert panels["layers_heads"].slots[0].frames[1].verdict


def test_of_several_grids_each_is_told_for_itself() -> None:
    for panel in build_report(make_several()).views:
        for frame in panel.slots[0].frames:
            assert "on the image" not in frame.verdict
