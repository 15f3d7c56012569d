"""Rules by which answers are right, and tallies of scores by image."""

from __future__ import annotations

import numpy as np
import pytest

from llava_eval.answers import score, vqa
from llava_eval.statistics import cluster_interval, resampled_means
from llava_eval.tally import Tally


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("2", ["two"] * 10, 1.0),
        ("Two.", ["2"] * 10, 1.0),
        ("the dog's bed", ["dogs bed"] * 10, 1.0),
        ("1,000", ["1000"] * 10, 1.0),
        ("2.5", ["25"] * 10, 0.0),
        ("red", ["blue"] * 10, 0.0),
        ("red", ["red"] * 4 + ["blue"] * 6, 1.0),
        # Of three who agree, each is left out once: two others say so, two thirds; else three, all.
        ("red", ["red"] * 3 + ["blue"] * 7, (3 * 2 / 3 + 7) / 10),
        ("red", ["red"] + ["blue"] * 9, (9 * 1 / 3) / 10),
        ("red", ["blue", "red"], 1.0),
    ],
)
def test_vqa_counts_the_people_who_agree(answer: str, expected: list[str], right: float) -> None:
    assert vqa(answer, expected) == pytest.approx(right)


def test_exact_and_contains_take_any_of_several_texts() -> None:
    assert score("exact", " a cat", ["dog", "a cat "]) == 1
    assert score("exact", "a cat", ["A cat"]) == 0
    assert score("contains", "It is a Black  cat.", ["black cat"]) == 1
    assert score("contains", "It is covered.", ["red"]) == 0
    with pytest.raises(ValueError, match="rule: got 'near' of 1 texts"):
        score("near", "a", ["a"])


def drawn(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 400 words of 60 images, and their images; words of one image are alike."""
    source = np.random.default_rng(seed)
    images = source.integers(0, 60, 400)
    return (source.random(400) < source.random(60)[images]).astype(float), images


def test_means_and_intervals_are_those_of_whole_images() -> None:
    scores, images = drawn()
    tally: Tally[str] = Tally()
    for value, image in zip(scores, images, strict=True):
        tally.add("hits", str(image), float(value))
    [figure] = tally.figures().values()
    assert (figure.value, figure.n, figure.images) == (pytest.approx(scores.mean()), 400, len(set(images)))
    low, high = cluster_interval(scores, images)
    assert figure.low == pytest.approx(low, abs=0.02)
    assert figure.high == pytest.approx(high, abs=0.02)
    means = resampled_means(scores[:, None], images.tolist())
    assert means is not None
    assert figure.high - figure.low == pytest.approx(np.ptp(np.percentile(means, (2.5, 97.5))), rel=0.1)


def test_tallies_joined_are_one() -> None:
    scores, images = drawn()
    whole, first, second = Tally[str](), Tally[str](), Tally[str]()
    for number, (value, image) in enumerate(zip(scores, images, strict=True)):
        whole.add("hits", str(image), float(value))
        (first if number < 150 else second).add("hits", str(image), float(value))
    second.add("other", "an image of its own", 3.0, 2)
    whole.add("other", "an image of its own", 3.0, 2)
    first.join(second)
    assert first.figures() == whole.figures()
    other = first.figures()["other"]
    assert (other.value, other.low, other.high, other.n, other.images) == (1.5, None, None, 2, 1)
