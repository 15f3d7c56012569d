"""Small files cannot ask for much, and the largest that a server makes are read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, decode, encode, limits
from llava_wire.container import read_file
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from stress.fuzzing.records import FAMILIES, HEAVY, Maker
from support.archives import members_of, npy, packed, reason_of, small, with_json
from support.synthetic import make_record

REASONS = ("not_a_record", "truncated", "too_large", "unsupported_version", "invalid")
KEPT = Path(__file__).parents[2] / "data" / "records"
SOUND = {
    "v1": KEPT / "v1" / "sqrt-u8-four-reductions.npz", "v2": KEPT / "v2" / "attention.npz",
    "v2-grids": KEPT / "v2" / "two-pictures-signed.npz",
}  # fmt: skip


def outcome(data: bytes) -> str:
    """ "read", or the reason of a refusal, which is a short line."""
    try:
        decode(data)
    except RecordError as error:
        return error.reason if len(str(error)) < 1000 else f"a message of {len(str(error))} characters"
    return "read"


@pytest.mark.parametrize("sound", SOUND.values(), ids=SOUND.keys())
def test_crafted_records_are_read_or_refused(sound: Path) -> None:
    maker = Maker(1, sound.read_bytes(), heavy=False)
    assert maker.file(7).data == Maker(1, sound.read_bytes(), heavy=False).file(7).data
    files = [maker.file(number) for number in range(150)]
    assert {outcome(crafted.data) for crafted in files} == {*REASONS, "read"}
    assert {outcome(crafted.data) for crafted in files if crafted.families == ("sound",)} == {"read"}


@pytest.mark.parametrize("family", sorted(HEAVY))
def test_a_heavy_file_is_read_or_refused(family: str) -> None:
    crafted = Maker(3, SOUND["v2"].read_bytes()).file(list(FAMILIES).index(family))
    assert family in crafted.families
    assert outcome(crafted.data) in {*REASONS, "read"}


def test_maps_of_zeros_of_the_largest_response_are_read() -> None:
    record = make_record(
        grid=24, words=("a",) * 41, layers=1, heads=1, reductions=("layers_heads",), with_picture=False
    )
    view = record.views["layers_heads"]
    rows, count = len(record.queries), 1000  # 42 x 1000 maps of 24 x 24: 24 MB in 8 bits
    facts = view.facts.__class__(
        **{**view.facts.__dict__, "axes": ("query", "layer", "patch"), "reduction": "heads",
           "layers": tuple(range(count))}
    )  # fmt: skip
    wide = view.__class__(
        facts,
        np.zeros((rows, count, 576), np.uint8),
        np.zeros((rows, count), np.float32),
        np.broadcast_to(view.shares[:, None], (rows, count, 4)),
        view.grids,
    )
    model = record.facts.model.__class__(**{**record.facts.model.__dict__, "layers": count})
    whole = record.__class__(
        record.facts.__class__(**{**record.facts.__dict__, "model": model}), {"layers_heads": wide}
    )
    data = encode(whole)
    assert len(data) < 1 << 20
    assert decode(data).views["layers_heads"].maps_float().shape == (rows, count, 24, 24)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "image of 10 billion pixels": lambda d: d["images"][0].update(width_px=100_000, height_px=100_000),
    "image of 10^200": lambda d: d["images"][0].update(width_px=10**200),
    "position of many digits": lambda d: d["queries"][0].update(position=10**90),
    "position elsewhere": lambda d: d["queries"][1].update(position=0),
    "step elsewhere": lambda d: d["queries"][1].update(step=0),
    "a row twice": lambda d: d["queries"].__setitem__(1, d["queries"][0]),
    "answer rows last": lambda d: d["queries"].insert(0, {"kind": "prompt", "token": 1, "position": 1, "step": 0}),
    "a layer twice": lambda d: d["views"][0].update(layers=[0, 0]),
    "a layer that the model has not": lambda d: d["views"][0].update(layers=[0, 2]),
    "no head": lambda d: d["views"][0].update(heads=[]),
    "a pair twice": lambda d: d["views"][1].update(pairs=[[0, 1], [0, 1]]),
    "axes of another reduction": lambda d: d["views"][0].update(reduction="none"),
    "error bound below 0": lambda d: d["views"][0].update(error_bound=-1.0),
    "shares in another order": lambda d: d.update(shares=["image", "bos", "prompt", "answer"]),
    "grid of another count": lambda d: d["grids"][0].update(cols=9),
    "sampling nested": lambda d: d.update(sampling={"a": [[[[[[[[[1]]]]]]]]]}),
    "software endless": lambda d: d.update(software={str(i): "x" for i in range(3000)}),
    "a piece without end": lambda d: d["tokens"][0].update(piece="x" * 5000),
    "an answer without end": lambda d: d.update(answer="x" * 300_000),
    "half a character": lambda d: d.update(answer="\ud800"),
    "half a character in a name": lambda d: d.update(sampling={"\udc00": 1}),
    "id below 0": lambda d: d["tokens"][0].update(id=-1),
    "a model of no layers": lambda d: d["model"].update(layers=0),
    "views without end": lambda d: d.update(views=d["views"] * 50),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_numbers_that_do_not_fit_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    assert reason_of(with_json(change)) == "invalid"


def test_a_directory_of_many_entries_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read")

    data = bytearray(encode(small()))
    at = data.rindex(b"PK\x05\x06") + 12
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    monkeypatch.setattr("zipfile.ZipFile", never)
    assert reason_of(bytes(data)) == "too_large"


def test_members_in_one_place_are_refused() -> None:
    data = bytearray(encode(small()))
    at = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", at + 4)
    data[second + 42 : second + 46] = data[at + 42 : at + 46]
    assert reason_of(bytes(data)) == "invalid"


def test_a_small_file_of_many_zeros_is_refused() -> None:
    members = members_of(encode(small()))
    assert reason_of(packed({**members, "extra.bin": bytes(80 << 20)})) == "too_large"


def test_json_of_many_values_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(encode(small()))
    monkeypatch.setattr("json.loads", lambda *_, **__: pytest.fail("parsed"))
    assert reason_of(packed({**members, "record.json": b"[" + b"{}," * 2_000_000 + b"{}]"})) == "too_large"


@pytest.mark.parametrize("depth", [9, 950])
def test_a_nested_run_block_is_refused(depth: int) -> None:
    members = members_of(encode(small()))
    run = b'{"a":' * depth + b"1" + b"}" * depth
    assert reason_of(packed({**members, "run.json": run})) == "invalid"


@pytest.mark.parametrize("scale", [2e-5, 1e30])
def test_a_decoded_map_stays_below_1(scale: float) -> None:
    members = members_of(encode(small()))
    scales = np.full_like(np.load(io_of(members["views/0/scales.npy"])), scale)
    assert reason_of(packed({**members, "views/0/scales.npy": npy(scales)})) == "invalid"


def io_of(data: bytes) -> io.BytesIO:
    """Bytes as a file."""
    return io.BytesIO(data)


def test_exact_rectangles_of_a_hundred_large_steps_are_quick_and_right() -> None:
    steps = tuple(Step("resize" if i % 2 else "crop", 10**8 - i, 10**8 - 3 * i, i * (i % 2 == 0)) for i in range(100))
    rects = Geometry(500, 400, steps, 10**5, 8, 900).patch_rects()
    assert rects.shape == (8, 900, 4)
    assert (np.diff(rects[0, :, 0]) > 0).all()


def test_a_file_that_is_too_large_or_endless_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npz"
    with path.open("wb") as stream:
        stream.truncate(8 << 30)
    with pytest.raises(RecordError, match=rf"got {8 << 30} bytes, expected {limits.MAX_FILE_BYTES}"):
        read_file(path)
    with pytest.raises(RecordError, match="got more bytes, expected 3000000"):
        read_file(Path("/dev/zero"), 3_000_000)
    os.truncate(path, 5)
    assert read_file(path) == bytes(5)
