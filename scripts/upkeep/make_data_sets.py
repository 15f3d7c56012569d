"""Makes the small data sets of tests/data/hugging_face anew, as Hugging Face's `datasets` writes them.

Flow: drawn images with questions -> `datasets` -> `save_to_disk`, and Parquet as its hub has it.

The package is no dependency of this project; install it into an environment of its own.

Example: PYTHONPATH=scripts python -m upkeep.make_data_sets
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "green", "blue", "yellow", "white")


def main() -> None:
    """Writes both forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "hugging_face", help="the folder")
    out = parser.parse_args().out
    datasets: Any = importlib.import_module("datasets")
    features = datasets.Features(
        {
            "picture": datasets.Image(), "question": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(COLOURS)), "boxes": datasets.Value("string"),
            "tags": datasets.List(datasets.ClassLabel(names=["left", "right"])),
        }
    )  # fmt: skip
    splits = {
        name: datasets.Dataset.from_list([example(n) for n in numbers], features=features)
        for name, numbers in (("train", range(5)), ("test", range(5, 7)))
    }
    shutil.rmtree(out, ignore_errors=True)
    datasets.DatasetDict(splits).save_to_disk(str(out / "saved"), num_shards={"train": 2, "test": 1})
    for name, split in splits.items():
        split.to_parquet(str(out / "hub" / "data" / f"{name}-00000-of-00001.parquet"), batch_size=2)


def example(n: int) -> dict[str, Any]:
    """One row: an image with a square, and what is asked about it."""
    colour, x = COLOURS[n % len(COLOURS)], 4 + 5 * n
    image = Image.new("RGB", (64, 48), "black")
    ImageDraw.Draw(image).rectangle((x, 10, x + 15, 25), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return {
        "picture": {"bytes": file.getvalue(), "path": f"scene-{n}.png"},
        "question": f"What colour is square {n}?",
        "label": COLOURS.index(colour),
        "boxes": json.dumps({colour: [x, 10, x + 16, 26]}),
        "tags": [int(x > 16)],
    }


if __name__ == "__main__":
    main()
