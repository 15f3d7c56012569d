"""Stores of many synthetic records, made without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path

from llava_viewer.data.items import digest_of
from llava_viewer.store.about import begun
from llava_viewer.store.part import PartWriter
from llava_viewer.store.rows import row_of
from llava_viewer.store.store import part_path
from llava_wire import encode
from support.runs import about_of, items_in
from support.synthetic import make_picture, make_record

KINDS = 20
"""Different records; they are repeated."""


def synthetic_store(folder: Path, count: int, chunk: int = 250) -> Path:
    """A store of so many records: every third one is wrong, every second one has the tag "odd"; the share of attention
    on the image rises over each twenty."""
    (folder / "data" / "images").mkdir(parents=True)
    lines, records = [], []
    for kind in range(KINDS):
        make_picture(64, 48, seed=kind).save(folder / "data" / "images" / f"{kind}.png")
        words = (" a", " blue" if kind % 3 == 0 else " red", " circle")
        records.append(
            make_record(
                width_px=64, height_px=48, grid=4, patch_px=8, words=words, reductions=("layers_heads",), seed=kind,
                with_picture=False, image_share=0.1 + 0.04 * kind,
            )
        )  # fmt: skip
    for n in range(count):
        line = {"id": f"q{n}", "image": f"images/{n % KINDS}.png", "prompt": f"What is in {n}?"}
        lines.append(line | {"answer": "a red circle", "tags": ["odd" if n % 2 else "even"]})
    data = folder / "data" / "items.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    items, out = items_in(data), folder / "out"
    about = begun(out, about_of(data, items, chunk, "contains"))
    (out / "parts").mkdir()
    files = [encode(record) for record in records]
    for number in range(about.chunks):
        own, path = items[number * chunk : (number + 1) * chunk], part_path(out, number)
        part = PartWriter(path, path.with_name(f".{path.name}.partial"), number)
        for item in own:
            right = item.n % 3 != 0
            part.add(row_of(item.facts(), records[item.n % KINDS], rule="contains", right=right), files[item.n % KINDS])
        part.finish({"digest": digest_of(own)})
    return out
