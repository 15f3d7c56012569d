"""What a comparison shows, as frozen dataclasses with the numbers already formatted.

Flow: `Pick`s -> `llava_viewer.pages.compare` -> `Comparison` -> compare.html.j2. A run has choices (the whole
answer, then its tokens), one map each; a difference belongs to a run and the first one.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_viewer.look.view_model import Stage

WHOLE_KEY = "all"


@dataclass(frozen=True)
class Choice:
    """One map of a run with the word that chooses it.

    Args:
        key: the id of its radio button, such as "a-t5" or "a-all".
        number: the token's number, or "all"; equal numbers move together.
        uri: the grey PNG of square-root codes, 255 = `maximum`; shared: the square root of this maximum over the
            largest of its kind (whole answers or words) in all runs, which `shared_text` tells.
        error: the largest error of a value that is read out of the picture, the record's own included.
        uniform_at, shared_uniform_at: where an even spread lies on the legend, 0..100.
    """

    key: str
    number: str
    text: str
    spaced: bool
    breaks: bool
    special: bool
    uri: str
    maximum: str
    error: str
    shared: str
    maximum_text: str
    shared_text: str
    uniform_text: str
    uniform_at: str
    shared_uniform_at: str
    image_share: str
    place: str
    times_text: str
    warning: str


@dataclass(frozen=True)
class Run:
    """One run of the comparison; `letter` is "a" to "d", `heading` the first thing in which it differs."""

    letter: str
    name: str
    heading: str
    direction: str
    model: str
    selection: str
    choices: tuple[Choice, ...]

    @property
    def label(self) -> str:
        """The letter as shown."""
        return self.letter.upper()


@dataclass(frozen=True)
class Difference:
    """The first run minus another, for the whole answers, as in a report's A − B.

    `letter` is the other run's; `uri` is a grey PNG: 128 is zero, 1 and 255 are -/+ maximum. What both
    maps may be off by (`floor_text`) is shown as zero; `differs` when anything is more.
    """

    letter: str
    uri: str
    maximum: str
    maximum_text: str
    floor_text: str
    differs: bool

    @property
    def label(self) -> str:
        """ "A − B"."""
        return f"A − {self.letter.upper()}"


@dataclass(frozen=True)
class Contrast:
    """One fact of every run; `differs` when they are not all the same."""

    label: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison shows."""

    title: str
    runs: tuple[Run, ...]
    differences: tuple[Difference, ...]
    contrasts: tuple[Contrast, ...]
    stage: Stage
    together: bool
    notes: tuple[str, ...]
