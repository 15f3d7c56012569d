"""What can be in a scene: the things' words, their plurals, and the colours that some of them come in."""

from __future__ import annotations

PLURALS: dict[str, str] = {
    word: word + "s"
    for word in (
        "dog", "cat", "horse", "elephant", "bird", "turtle", "snail", "bee", "rabbit", "duck", "penguin", "owl", "frog",
        "cow", "pig", "crab", "car", "bicycle", "boat", "plane", "rocket", "tree", "flower", "mushroom", "apple",
        "banana", "pizza", "cake", "cup", "house", "umbrella", "ball", "guitar", "clock", "key", "book", "shoe", "hat",
        "chair", "phone", "moon", "sun", "balloon", "bell", "drum", "camera",
    )
} | {"fish": "fish", "sheep": "sheep", "butterfly": "butterflies", "octopus": "octopuses", "bus": "buses",
     "cactus": "cactuses"}  # fmt: skip
"""Each kind's word, as singular and as plural."""
KINDS: tuple[str, ...] = tuple(sorted(PLURALS))

COLOURS: dict[str, float] = {"red": 2.0, "yellow": 46.0, "green": 130.0, "blue": 212.0, "purple": 282.0}
"""Hues in degrees."""
COLOURED: dict[str, float] = {
    "car": 2.0, "umbrella": 250.0, "balloon": 3.0, "book": 3.0, "shoe": 210.0, "phone": 2.0, "guitar": 4.0,
}  # fmt: skip
"""Kinds that come in every colour, with the hue that is turned into it; the others have no colour in their name."""


def article(word: str) -> str:
    """The indefinite article before a colour or a kind: by its first letter, which fits all of these."""
    return "an" if word[0] in "aeiou" else "a"
