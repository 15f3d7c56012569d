"""Numbers as a reader sees them."""

from __future__ import annotations

import pytest

from llava_viewer.look import text, wording


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"), (1, "100 %"), (0.9999, "99.99 %"), (0.99996, "99.99 %"), (0.42, "42 %"), (0.0999, "10 %"),
        (0.021, "2.1 %"),
        (0.000998, "0.10 %"), (0.00033, "0.033 %"), (0.000001, "<0.001 %"), (0.995, "99.50 %"), (0.0995, "10 %"),
    ],
)  # fmt: skip
def test_percent(share: float, shown: str) -> None:
    assert wording.percent(share).replace(wording.NBSP, " ") == shown


def test_never_a_whole_for_less_than_a_whole() -> None:
    assert wording.percent(0.99999).startswith("99.99")


@pytest.mark.parametrize(
    ("numbers", "shown"), [((), ""), ((3,), "3"), ((0, 1, 2, 14), "0–2, 14"), ((5, 3, 4), "5, 3–4")]
)
def test_ranges(numbers: tuple[int, ...], shown: str) -> None:
    assert wording.ranges(numbers) == shown


@pytest.mark.parametrize("value", [0.0, 1.0, 0.0213456, 1e-7, 123.456, 84.0, -12.5])
def test_plain_numbers_read_back(value: float) -> None:
    assert float(wording.plain(value)) == pytest.approx(value, rel=1e-3)
    assert "e" not in wording.plain(value)


def test_sizes_and_counts() -> None:
    assert wording.size(999) == f"999{wording.NBSP}bytes"
    assert wording.size(25_000_000) == f"25.0{wording.NBSP}MB"
    assert wording.count(1, "token") == f"1{wording.NBSP}token"


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (" red", ("red", True, False)), ("uare", ("uare", False, False)), ("\n", ("↵", True, True)),
        ("", ("·", False, False)), ("  ", ("␣", True, False)), ("a\nb", ("a b", False, True)),
        ("\ufe0f", ("⟨U+FE0F⟩", False, False)), ("\u200d", ("⟨U+200D⟩", False, False)),
        (" \u200b", ("⟨U+200B⟩", True, False)), ("\xad", ("⟨U+00AD⟩", False, False)),
        ("\ufeff", ("⟨U+FEFF⟩", False, False)), ("\xa0", ("␣", True, False)), ("\x85", ("␣", True, False)),
    ],
)  # fmt: skip
def test_a_token_is_never_invisible(piece: str, shown: tuple[str, bool, bool]) -> None:
    assert text.token_label(piece) == shown


def test_control_characters_and_direction_overrides_are_shown() -> None:
    assert text.visible("a\x00\x1b\u202eb") == "a␀␛⟨U+202E⟩b"
    assert text.visible("line\n\ttab") == "line\n\ttab"
    assert text.visible("\ud800") == "?"
    assert text.visible("a\x85b\x9b") == "a⟨U+0085⟩b⟨U+009B⟩"


UNSEEN = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u180e\u200b\u200e\u200f\u202a\u202e"
    "\u2060\u2064\u2066\u206f\u2800\u3164\ufeff\uffa0\ufff9\U0001d173\U000e0001"
)


@pytest.mark.parametrize("char", [*UNSEEN, "\u200c", "\u200d", "\ufe00", "\ufe0f", "\U000e0100", "\U000e0020"])
def test_what_has_no_shape_has_a_sign_that_names_it(char: str) -> None:
    sign = f"⟨U+{ord(char):04X}⟩"
    assert text.visible(char) == sign
    assert text.visible(f" {char} ") == f" {sign} "
    assert text.token_label(char)[0] == sign
    assert text.visible(sign) == sign
    if char in UNSEEN:
        assert text.visible(f"a{char}b") == f"a{sign}b"


@pytest.mark.parametrize(
    "whole",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2764\ufe0f",
        "1\ufe0f\u20e3",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a Persian word
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # a flag
        "\u0601\u0661",
        "\u8fba\U000e0100",
        "e\u0301",
        "a\u2028b",
    ],
)
def test_joiners_and_selectors_that_do_their_work_stay(whole: str) -> None:
    assert text.visible(whole) == whole
    assert text.visible(f"({whole})") == f"({whole})"


def test_the_first_strong_letter_decides_the_direction() -> None:
    assert text.direction("12 שלום hello") == "rtl"
    assert text.direction("... hello שלום") == "ltr"
    assert text.direction("") == "ltr"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            {"result": "measured", "needing": 5, "of": 11, "nats": 1.0},
            (
                "5 of 11 tokens need the image: their log probability falls by more than 1.0 nats where all of its "
                "patches are replaced by their mean"
            ),
        ),
        ({"result": "not tested", "reason": "the answer is empty"}, "not tested; reason the answer is empty"),
        ({"result": "measured", "needing": "5", "of": [], "nats": None}, "measured; needing 5; of []; nats None"),
    ],
)
def test_the_check_without_the_image_is_a_sentence(check, words):
    assert wording.check_text(check, "image").replace(wording.NBSP, " ") == words


def test_a_revision_is_named_where_there_is_one() -> None:
    assert wording.at_revision("mine", "0123abc") == "mine @ 0123abc"
    assert wording.at_revision("mine", "") == "mine"
