"""Writes held-out scenes as data for a dataset run: images, and JSON lines with questions, right answers and boxes.

Flow: a seed -> scenes, a description and some other questions of each -> OUT/*.png, OUT/items.jsonl.
Example: python -m things.make_set --scenes 200 --questions 2 --out out/set200
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from things.questions import ask_all, called
from things.scenes import BASE_SIDE_PX, make_scene

SEED = 74_003
"""Neither training nor the evaluation of the model's card draws scenes from it."""


def write_set(folder: Path, scenes: int, questions: int, seed: int, side_px: int = BASE_SIDE_PX) -> int:
    """Writes the folder; how many items it has.

    Args:
        scenes: how many images.
        questions: of each, a description first; fewer where a scene does not allow as many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = random.Random(seed), []
    for number in range(scenes):
        scene = make_scene(rng, side_px=side_px)
        name = f"{number:05}.png"
        scene.image.save(folder / name, compress_level=1)
        described, *others = ask_all(rng, scene.layout)
        for question in [described, *rng.sample(others, min(questions - 1, len(others)))]:
            row = {
                "id": f"{number:05}-{question.kind}",
                "image": name,
                "prompt": question.text,
                "expected": question.answer,
                "boxes": {called(unit): unit.boxes for unit in scene.layout.units},
                "tags": [question.kind],
            }
            lines.append(json.dumps(row))
    (folder / "items.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=2, metavar="N", help="of each image (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="the folder")
    given = parser.parse_args(arguments)
    count = write_set(given.out, given.scenes, given.questions, given.seed)
    print(f"{given.out / 'items.jsonl'}: {count} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
