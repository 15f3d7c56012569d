"""Small record files that ask a reader for much: counts, bombs, pictures of absurd size, alternatives.

Flow: members of a sound record and a random source -> the members, changed in place.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import numpy as np
from PIL import Image as PillowImage

Members = dict[str, bytes]


def packed(members: Members) -> bytes:
    """A sound zip of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An array as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def document_of(members: Members) -> dict[str, Any]:
    """record.json, parsed."""
    found: dict[str, Any] = json.loads(members["record.json"])
    return found


def put(members: Members, document: dict[str, Any]) -> None:
    """Makes it record.json, whatever length its whole numbers have."""
    members["record.json"] = dumps(document).encode("ascii")


def dumps(value: object) -> str:
    """JSON with whole numbers of any length, which Python's own refuses to write."""
    if type(value) is int and value.bit_length() > 1000:
        return f"{'-' if value < 0 else ''}1{'0' * round(value.bit_length() * 0.30103)}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{dumps(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def counts(rng: random.Random, members: Members) -> None:
    """Many of something, some with arrays that fit: tokens, patches, views, candidates, notes, layers."""
    document, kind = document_of(members), rng.randrange(6)
    many = rng.choice((300, 3000, 16_384, 40_000))
    if kind == 0:
        return _resize(members, document, tokens=many, side=1)
    if kind == 1:
        return _resize(members, document, tokens=rng.choice((70, 600)), side=rng.choice((16, 48)))
    if kind == 2:
        document["views"] = document["views"] * many
    elif kind == 3:
        document["tokens"][0]["top"] = document["tokens"][0]["top"][:1] * many
    elif kind == 4:
        document["notes"] = [{"code": "x", "field": "image", "text": "y" * 50}] * many
    else:
        document["views"][0]["layers"] = list(range(many))
    return put(members, document)


def bombs(rng: random.Random, members: Members) -> None:
    """Much that deflates to little."""
    kind, document = rng.randrange(5), document_of(members)
    if kind == 0:
        _resize(members, document, tokens=rng.choice((100, 1000)), side=24, layers=rng.choice((50, 400)))
    elif kind == 1:
        members["views/0/maps.npy"] = npy(np.zeros((rng.choice((20, 300)) << 20,), np.uint8))
    elif kind == 2:
        members["record.json"] = b"[" + b"{}," * (rng.choice((1, 12)) << 20) + b"{}]"
    elif kind == 3:
        members["run.json"] = b'{"a":[' + b"[]," * (4 << 20) + b"1]}"
    else:
        members["extra.bin"] = bytes(rng.choice((50, 400)) << 20)


def picture_sizes(rng: random.Random, members: Members) -> None:
    """A record without pixels of a picture of absurd size, its geometry and rectangles agreeing."""
    document = document_of(members)
    wide, high = rng.choice(
        ((100_000, 100_000), (10**200, 5), (1, 40_000_000), (40_000_000, 1), (11_000, 11_000), (1, 1), (3, 44_000_000),
         (9000, 9000))
    )  # fmt: skip
    images_of(document)[0] |= {"width_px": wide, "height_px": high}
    grid, several = grids_of(document)[0], len(grids_of(document)) > 1
    side = grid["rows"]
    grid |= {
        "steps": [{"op": "resize", "width_px": side, "height_px": grid["cols"], "left_px": 0, "top_px": 0}],
        "patch_px": 1,
    }  # fmt: skip
    for name in ("picture.png", "picture.jpg"):
        members.pop(name, None)
    put(members, document)
    if wide < 10**9 and not several:
        rects = _rects(wide, high, side)
        members["patch_rects.npy"] = npy(rects.reshape(-1, 4) if "grids" in document else rects)


def images_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of the pictures, in a record of either version."""
    images: list[dict[str, Any]] = document["images"] if "images" in document else [document["image"]]
    return images


def grids_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What is said of rows, columns and steps, in a record of either version."""
    grids: list[dict[str, Any]] = document["grids"] if "grids" in document else [document["geometry"]]
    return grids


def grids(rng: random.Random, members: Members) -> None:
    """Grids, positions and pictures that do not fit each other, or are too many."""
    document, kind = document_of(members), rng.randrange(9)
    if "grids" not in document:
        document |= {"version": 2, "images": [document["image"]], "grids": [{**document["geometry"], "name": "base"}]}
    grid = document["grids"][0]
    runs = grid.get("positions") or [[1, 1]]
    many = rng.choice((3, 257, 70_000))
    if kind == 0:
        grid["positions"] = [[start + i, 1] for start, count in runs for i in range(count)]
    elif kind == 1:
        grid["positions"] = runs * many
    elif kind == 2:
        grid["positions"] = [[rng.choice((-1, 0, 2**31, 10**30, 2**31 - 1)), rng.choice((0, -1, 1, 64, 2**31))]]
    elif kind == 3:
        document["grids"] = document["grids"] * min(many, 3000)
    elif kind == 4:
        document["grids"] = [{**grid, "name": f"tile {i}"} for i in range(min(many, 3000))]
    elif kind == 5:
        document["images"] = document["images"] * min(many, 3000)
    elif kind == 6:
        grid["image"] = rng.choice((-1, 1, 64, 2**31, "0", None))
    elif kind == 7:
        grid["positions"] = rng.choice(([], [[]], [[1, 2, 3]], {}, None, [["1", "2"]], list(range(500))))
    else:
        grid["name"] = rng.choice(("", "x" * 5000, "\u202e", 7))
    put(members, document)


def quantities(rng: random.Random, members: Members) -> None:
    """Views whose quantity, method or encoding do not go with their arrays; annotations of any kind."""
    document, kind = document_of(members), rng.randrange(6)
    view = document["views"][rng.randrange(len(document["views"]))]
    quantity = view.setdefault("quantity", {"name": "attention", "unit": "share", "signed": False, "additive": True})
    if kind == 0:
        quantity["signed"] = rng.choice((not quantity.get("signed"), 1, None))
    elif kind == 1:
        quantity["unit"] = rng.choice(("share", "nats", "", "x" * 5000))
    elif kind == 2:
        view["encoding"] = rng.choice(("signed-u8", "linear-u8", "sqrt-u8", "float32", "float16", "log-u8"))
    elif kind == 3:
        view["method"] = rng.choice((None, {}, {"name": "x" * 5000}, {"name": "m", "parameters": {"a": [[1]] * 9000}}))
    elif kind == 4:
        document["annotations"] = rng.choice(
            (
                {},
                [],
                {"right": 1},
                {"tags": ["t"] * 5000},
                {"expected": "x" * 300_000},
                {"rule": "\u202e"},
                {"later": 1},
            )
        )
    else:
        document["prompt"] |= {"turns": [{"role": "user", "text": "x"}] * rng.choice((2, 5000)), "system": "y" * 5000}
    put(members, document)


def pictures(rng: random.Random, members: Members) -> None:
    """A picture that is none, or is large, or is of another format than a record may carry."""
    buffer, kind = io.BytesIO(), rng.randrange(8)
    if kind == 0:
        PillowImage.new("1", (8900, 8900)).save(buffer, "PNG")
    elif kind == 1:
        PillowImage.new("RGBA", (6000, 6000), (1, 2, 3, 4)).save(buffer, "PNG")
    elif kind == 2:
        PillowImage.new("1", (1, 4_000_000)).save(buffer, "PNG")
    elif kind == 3:
        PillowImage.new("L", (60_000, 1200)).save(buffer, "JPEG", progressive=True)
    elif kind == 4:
        PillowImage.new("RGB", (5000, 5000)).save(buffer, rng.choice(("TIFF", "WEBP", "GIF", "BMP")))
    elif kind == 5:
        PillowImage.new("L", (16_000, 16_000)).save(buffer, "PNG")
    elif kind == 6:
        PillowImage.new("RGB", (64, 48)).save(buffer, "PNG")
        buffer = io.BytesIO(buffer.getvalue()[: rng.randrange(9, 90)])
    else:
        buffer.write(rng.randbytes(2000))
    members[rng.choice(("picture.png", "picture.jpg"))] = buffer.getvalue()


def alternatives(rng: random.Random, members: Members) -> None:
    """Records inside the record: many, inside one another, bombs, halves."""
    inner, kind = packed(members), rng.randrange(5)
    if kind == 0:
        members |= {f"alternatives/{i}.npz": inner for i in range(1, rng.choice((3, 60, 70)))}
    elif kind == 1:
        for _ in range(30):
            inner = packed({**members, "alternatives/1.npz": inner})
        members["alternatives/1.npz"] = inner
    elif kind == 2:
        members["alternatives/9999.npz"] = inner
    elif kind == 3:
        bomb = dict(members)
        _resize(bomb, document_of(bomb), tokens=900, side=24, layers=40)
        members |= {f"alternatives/{i}.npz": packed(bomb) for i in range(1, 5)}
    else:
        members["alternatives/1.npz"] = inner[: len(inner) // 2]


def _resize(members: Members, document: dict[str, Any], tokens: int, side: int, layers: int = 1) -> None:
    """Makes it one view over so many tokens, patches and layers, all maps alike; nothing else is wrong with it."""
    token = {"id": 1, "piece": "a", "text": " a", "logprob": -0.5, "special": False, "top": []}
    ids = [1, *([4] * (side * side)), 2]
    document["prompt"] |= {"ids": ids, "pieces": ["p"] * len(ids)}
    document["prompt"].pop("texts", None)
    document["tokens"] = [token] * tokens
    document["queries"] = [
        {"kind": "answer", "token": i, "position": len(ids) - 1 + i, "step": i} for i in range(tokens)
    ]
    images_of(document)[0] |= {"width_px": side, "height_px": side}
    grid = {"steps": [], "patch_px": 1, "rows": side, "cols": side}
    later = "grids" in document
    if later:
        document["images"] = document["images"][:1]
        document["grids"] = [{"image": 0, "name": "base", **grid, "positions": [[1, side * side]]}]
    else:
        document["geometry"] = grid
        document["prompt"] |= {"image_start": 1, "image_count": side * side}
    document["model"]["layers"] = max(layers, document["model"]["layers"])
    apart = ["layer"] if layers > 1 else []
    document["views"] = [
        {
            "name": "v", "reduction": "heads" if apart else "layers_heads",
            "axes": ["query", *apart, *(["patch"] if later else ["row", "col"])],
            "layers": list(range(layers)), "heads": [0], "pairs": [], "head_set": "", "steps": [],
            "precision": "uint8", "encoding": "sqrt-u8", "error_bound": 0.001,
        }
    ]  # fmt: skip
    for name in [name for name in members if name.startswith(("views/", "picture"))]:
        del members[name]
    lead = (tokens, layers) if apart else (tokens,)
    cells = (side * side,) if later else (side, side)
    members["patch_rects.npy"] = npy(_rects(side, side, side).reshape(*cells, 4))
    members["views/0/maps.npy"] = npy(np.full((*lead, *cells), 9, np.uint8))
    members["views/0/scales.npy"] = npy(np.full(lead, 1e-6, np.float32))
    members["views/0/shares.npy"] = npy(np.full((*lead, 4), 0.25, np.float32))
    put(members, document)


def _rects(wide: int, high: int, side: int) -> np.ndarray:
    """The rectangles of a picture that is cut into `side` x `side` parts, [side, side, 4] float64."""
    rects = np.empty((side, side, 4))
    xs, ys = (np.array([length * i / side for i in range(side + 1)]) for length in (wide, high))
    rects[..., 0], rects[..., 1] = xs[:-1][None], ys[:-1][:, None]
    rects[..., 2], rects[..., 3] = xs[1:][None], ys[1:][:, None]
    return rects
