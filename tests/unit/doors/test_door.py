"""Doors: what is declared is known, listed and loaded; what does not fit is refused with its reason."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from llava_doors import door
from llava_doors.door import METHODS, Declaration, Door, DoorError, Parameter

ROOT = Path(__file__).parents[3]
BLUR = Declaration(
    "blur",
    "Blurs a map.",
    "test_door_blur:Blur",
    (
        Parameter("sigma", "number", 1.5, "Width in patches."),
        Parameter("rounds", "integer", 1, "How often."),
        Parameter("edges", "switch", True, "Whether edges are kept."),
        Parameter("kind", "text", "box", "Which kernel.", ("box", "disc")),
        Parameter("floor", "number", 0.5, "What is added.", above=0, up_to=9),
    ),
)
"""What an entry point of another package names."""


class Blur:
    """Behind `BLUR`."""


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Door:
    """A door with this module's declaration behind it."""
    monkeypatch.setitem(sys.modules, "test_door_blur", sys.modules[__name__])
    points = [EntryPoint("mine", "test_door_blur:BLUR", METHODS.group)]
    monkeypatch.setattr(door, "entry_points", lambda group: points if group == METHODS.group else [])
    return Door("method", METHODS.group, "llava_doors.methods")


def test_what_another_package_declares_is_known_and_loaded(methods: Door) -> None:
    assert methods.find("blur") is BLUR
    assert type(methods.load("blur")) is Blur
    with pytest.raises(DoorError, match=r"method: got 'blurr', expected one of \[.*'blur'.*\]; did you mean 'blur'"):
        methods.find("blurr")
    with pytest.raises(DoorError, match=r"options.views\[0\].method: got 'x', expected one of"):
        methods.find("x", "options.views[0].method")


def test_parameters_are_checked_by_name_and_kind() -> None:
    assert BLUR.parse({"sigma": 2}) == {"sigma": 2, "rounds": 1, "edges": True, "kind": "box", "floor": 0.5}
    with pytest.raises(DoorError, match=r"p.kind: got 'disk', expected one of \['box', 'disc'\]; did you mean 'disc'"):
        BLUR.parse({"kind": "disk"}, "p")
    for value in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DoorError, match=r"p.floor: got .*, expected a finite number( above 0)?; correct it"):
            BLUR.parse({"floor": value}, "p")
    assert BLUR.parse({"floor": 9})["floor"] == 9
    with pytest.raises(DoorError, match=r"p.floor: got 9.1, expected up to 9; lower it"):
        BLUR.parse({"floor": 9.1}, "p")
    wrong: dict[str, Any] = {"sigma": "2", "rounds": 1.5, "edges": 1, "kind": 3}
    for name, value in wrong.items():
        with pytest.raises(DoorError, match=rf"p.{name}: got {value!r}, expected (a |text|true or false)"):
            BLUR.parse({name: value}, "p")
    for name in ("sigma", "rounds"):
        with pytest.raises(DoorError, match="got True"):
            BLUR.parse({name: True})
    with pytest.raises(DoorError, match=r"parameters.sigm: .* expected one of .*did you mean 'sigma'"):
        BLUR.parse({"sigm": 1})


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (["test_door_blur:Blur"], "got a type, expected a Declaration"),
        (["test_door_blur:BLUR"] * 2, "'blur' a second time"),
        (["test_door_none:BLUR"], "No module named 'test_door_none'"),
    ],
)
def test_packages_that_declare_nonsense_are_named(
    methods: Door, monkeypatch: pytest.MonkeyPatch, points: list[str], says: str
) -> None:
    found = [EntryPoint(f"mine{i}", value, METHODS.group) for i, value in enumerate(points)]
    monkeypatch.setattr(door, "entry_points", lambda group: found)
    with pytest.raises(DoorError, match=f"entry point llava_gaze.methods: mine.*{says}"):
        methods.known()


def test_a_class_that_is_not_there_is_named(methods: Door) -> None:
    methods.known()["gone"] = Declaration("gone", "Not there.", "test_door_blur:Gone")
    with pytest.raises(DoorError, match="method 'gone': got 'test_door_blur:Gone', which cannot be loaded"):
        methods.load("gone")


def test_listing_what_there_is_needs_no_torch() -> None:
    code = (
        "import sys\nfrom llava_doors.door import *\nMETHODS.known(), FAMILIES.known()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "handler", check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_texts_fit_a_record_and_numbers_a_tensor() -> None:
    for text, told in (
        ("x" * 4097, "got 4097 characters, expected up to 4096"),
        ("\ud800", "half of a surrogate pair"),
    ):
        with pytest.raises(DoorError, match=told):
            BLUR.parse({"kind": text}, "p")
    for number in (10**400, float("inf"), float("nan")):
        with pytest.raises(DoorError, match="expected a finite number"):
            BLUR.parse({"sigma": number}, "p")
    found = BLUR.parse({"sigma": 10**120}, "p")["sigma"]
    assert (found, type(found)) == (1e120, float)


def test_names_of_any_length_leave_room_for_what_is_expected() -> None:
    with pytest.raises(DoorError, match=r"^method: got 'x{79}, expected one of \['attention'") as refused:
        METHODS.find("x" * 12_000)
    assert len(str(refused.value)) < 600
    with pytest.raises(
        DoorError, match=r"^parameters\.y{80}: got a parameter that 'occlusion' does not have"
    ) as refused:
        METHODS.known()["occlusion"].parse({"y" * 12_000: 1})
    assert len(str(refused.value)) < 300
