"""The short forms of the command line become the JSON that the server reads."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from llava_doors.door import METHODS
from llava_viewer.cli.parser import build_parser
from llava_viewer.cli.selection import checks, heads, indices, parameters, view


@pytest.mark.parametrize(
    ("text", "value"),
    [("all", "all"), ("0", [0]), ("0,2,1", [0, 2, 1]), ("0-3", [0, 1, 2, 3]), ("0,5-6,9", [0, 5, 6, 9]), ("4-4", [4])],
)
def test_numbers(text: str, value: Any) -> None:
    assert indices(text) == value
    assert heads(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.4", [[2, 4]]), ("2.4,0.5", [[2, 4], [0, 5]]), ("14.24,14.13", [[14, 24], [14, 13]]), ("[[2, 4]]", [[2, 4]]),
     ("next-object", "next-object"), ("a.b_c", "a.b_c")],
)  # fmt: skip
def test_heads(text: str, value: Any) -> None:
    assert heads(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1,", ",1", "1-", "3-1", "0-99999999", "a", "1.5", "one two", "0x1"])
def test_what_is_not_a_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="got .*, expected"):  # noqa: RUF043
        indices(text)


@pytest.mark.parametrize("text", ["", "2.4,", "2.4,1", "1 2", "[[2, 4]", "-1"])
def test_what_is_no_head(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="got .*, expected"):  # noqa: RUF043
        heads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name=mean", {"name": "mean"}),
        (
            "name=mean,layers=all,heads=all,reduction=layers_heads",
            {"name": "mean", "layers": "all", "heads": "all", "reduction": "layers_heads"},
        ),
        ("layers=0,2-3,name=a,heads=0,1", {"name": "a", "layers": [0, 2, 3], "heads": [0, 1]}),
        ("name=p,heads=2.4,0.5,reduction=none", {"name": "p", "heads": [[2, 4], [0, 5]], "reduction": "none"}),
        ("name=one, two", {"name": "one, two"}),
        ('{"name": "j", "heads": [[2, 4]]}', {"name": "j", "heads": [[2, 4]]}),
    ],
)
def test_views(text: str, value: Any) -> None:
    assert view(text) == value


@pytest.mark.parametrize(
    "text", ["", "mean", "layers=all", "name=", "name=a,name=b", "nam=a", "name=a,layers=x", "{", "{]"]
)
def test_what_is_no_view(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="got .*, expected"):  # noqa: RUF043
        view(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["predict", "x.png"], "required: PROMPT"),
        (
            ["predict", "--grpc", "x.png", "what?"],
            "got 'x.png', expected HOST:PORT; put a bare --grpc after the question",
        ),
        (["predict", "x.png", "what?", "--layers", "a"], "argument --layers: got 'a', expected all, numbers"),
        (["predict", "x.png", "what?", "--view", "mean"], "argument --view: got 'mean', expected each of name"),
        (["predict", "x.png", "what?", "--url", "ftp://a"], "argument --url: url: got 'ftp://a'"),
        (["predict", "x.png", "what?", "--url", "http://a", "--grpc"], "not allowed with"),
        (["predict", "x.png", "what?", "--timeout", "0"], "got '0', expected seconds above 0"),
        (["predict", "x.png", "what?", "--timeout", "soon"], "got 'soon', expected seconds above 0"),
        (
            ["predict", "https://example.org/a.png", "what?"],
            "got https://example.org/a.png, expected a file; nothing is",
        ),
        (["predict", "x.png", "what?", "--image", "data:image/png;base64,AA"], "argument --image: got data:image/png"),
        (["render", "run.npz", "--image", "ftp://a/b.png"], "argument --image: got ftp://a/b.png, expected a file"),
        (["export", "run.npz"], "required: -o"),
        (["render", "run.npz", "--image", "x", "--no-image"], "not allowed with"),
    ],
)
def test_wrong_command_lines_end_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_images_stand_before_the_question() -> None:
    for given in (["a.png", "b.png", "what?", "--stream"], ["--stream", "a.png", "b.png", "what?"]):
        arguments = build_parser().parse_args(["predict", *given, "--image", "c.png"])
        assert [path.name for path in [*arguments.image, *arguments.further]] == ["a.png", "b.png", "c.png"]
        assert arguments.prompt == "what?"
    assert build_parser().parse_args(["predict", "a.png", "https://what?"]).prompt == "https://what?"


@pytest.mark.parametrize("command", ["", "predict", "render", "index", "inspect", "export"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([*([command] if command else []), "--help"])
    assert caught.value.code == 0
    assert f"llava-viewer {command or 'predict'} " in capsys.readouterr().out.partition("example")[2]


@pytest.mark.parametrize(("given", "target"), [(["--grpc"], ""), (["--grpc", "[::1]:7"], "[::1]:7"), ([], None)])
def test_grpc_takes_an_address_or_none(given: list[str], target: str | None) -> None:
    assert build_parser().parse_args(["predict", "x.png", "what?", *given]).grpc == target


def test_parameters_are_what_the_method_says_they_are():
    """A word that looks like a number stays a word."""
    assert parameters(METHODS, "contributions", [("rival", "5")]) == {"rival": "5"}
    assert parameters(METHODS, "relative", [("epsilon", "0.5"), ("form", "ratio")]) == {"epsilon": 0.5, "form": "ratio"}
    assert parameters(METHODS, "not installed here", [("a", "5"), ("b", "red")]) == {"a": 5, "b": "red"}
    assert parameters(METHODS, None, [("a", "[")]) == {"a": "["}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", []),
        ("image", ["image"]),
        ("image,patches", ["image", "patches"]),
        ('{"name": "patches", "top": 2}', [{"name": "patches", "top": 2}]),
        ('["image", {"name": "patches"}]', ["image", {"name": "patches"}]),
    ],
)
def test_checks(text: str, value: Any) -> None:
    assert checks(text) == value


def test_what_is_no_json_is_no_check() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected JSON"):
        checks('{"name"')
