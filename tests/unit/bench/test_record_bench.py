"""What the benchmark of records measures: sizes of the zip's members and errors against the exact record."""

from __future__ import annotations

import numpy as np

from bench import records
from bench.parts.results import read
from llava_wire import encode
from support.synthetic import make_record


def test_stored_bytes_are_those_of_maps_and_scales():
    record = make_record(reductions=("none",), precision="float32")
    stored, plain = records.stored_bytes(encode(record))
    assert plain == record.maps_float().size * 4
    assert 0 < stored < plain * 1.1


def test_errors_are_shares_of_each_map_s_peak():
    exact = make_record(reductions=("none",), precision="float32")
    assert records.errors(exact, exact) == (0, 0)
    worst, mean = records.errors(make_record(reductions=("none",), precision="uint8"), exact)
    assert 0.5 / 255 < worst < 0.032
    assert 0 < mean < worst


def test_compression_and_error_of_a_real_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "engines", lambda: {"8 x 8": small_engine()})
    out = tmp_path / "r.json"
    assert records.main(["--tokens", "4", "--rounds", "2", "--out", str(out)]) == 0
    result = read(out)
    assert len(result.raw) == 4 * 4 + 1
    by_precision = [result.raw[f"8 x 8, reduction none, {p}"]["maps_bytes"] for p in ("uint8", "float16", "float32")]
    assert by_precision == sorted(by_precision)
    assert result.raw["8 x 8, reduction none, float32"]["worst_error_of_peak"] == 0
    assert np.isfinite([figure.value for figure in result.figures]).all()


def small_engine():
    return records.Engine.load(records.MODEL_STORE / "llava-shapes", device="cpu")
