"""The older toolkit's files: one overlay PNG per map, named by step, layer and head, and a plain text log.

Names: `mean.png` for a view averaged over the steps (`layer_{l}.png`, `layer_{l}_head_{h}.png` where it keeps layers
or heads), else `step_{t}.png`, `step_{t}_layer_{l}.png` or `step_{t}_layer_{l}_head_{h}.png`. {t} is the step that
predicted answer token t, from 0; rows of the question are named `question_{position}` instead. Numbers are not padded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw

from llava_viewer.export.fonts import cut, font_for
from llava_viewer.files import LOG_HEAD, PNG_LEVEL, png_mark, written
from llava_viewer.look import colormap, wording
from llava_viewer.look.heatmap import overlay
from llava_viewer.look.photo import ground
from llava_viewer.look.pieces import prompt_texts
from llava_viewer.look.provenance import flatten
from llava_viewer.look.rows import own_text
from llava_viewer.look.text import token_label, visible
from llava_viewer.look.units import method_text, unit_of
from llava_viewer.one_grid import OneGrid, place
from llava_wire.choose import split_view
from llava_wire.grids import image_runs
from llava_wire.record import Record
from llava_wire.view import View

MIN_SIDE_PX = 336
"""Small pictures are enlarged by whole numbers until their shorter side has this length, so that captions fit."""
MAX_SIDE_PX = 1024
"""Large pictures are made smaller: an overlay is for the eye, and there may be thousands."""
MAX_FILES, MANY_FILES, MANY_PIXELS = 20_000, 500, 60_000_000
"""The most overlays; the most, by number and by pixels together, without being asked for `many`."""


def export_overlays(
    record: Record,
    out_dir: Path,
    *,
    view: str | None = None,
    palette: str = colormap.DEFAULT_PALETTE,
    alpha: float = 0.4,
    many: bool = True,
) -> list[Path]:
    """Writes one overlay PNG per map, each on its own scale with its token as the caption.

    Args:
        out_dir: made when it is not there; files of the same names are replaced.
        view: a view's name; the first view when absent.
        alpha: the heat's opacity, the same everywhere, as the older toolkit drew it.
        many: up to `MAX_FILES`, not `MANY_FILES` and `MANY_PIXELS`.

    Returns:
        The files, in the order of the record.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: got {alpha}, expected 0 to 1")
    chosen = record.view(view)
    check_files(record, chosen, many=many)
    maps, shares = split_view(chosen)
    unit = unit_of(chosen)
    names = file_names(record, chosen)
    out_dir.mkdir(parents=True, exist_ok=True)
    canvas, where = _enlarged(record), place(record).removeprefix("the ")
    made = []
    for index, (name, token) in enumerate(names):
        row, slot = divmod(index, maps.shape[1])
        heat = maps[row, slot]
        picture = overlay(canvas, heat, record.geometry, unit.palette(palette), alpha)
        told = f"largest {unit.text(float(heat[unit.brightest(heat)]))}"
        if shares is not None:
            told = f"{where} {wording.percent(float(shares[row, slot, 1]))}, max {wording.percent(float(heat.max()))}"
        caption = f"{token}   {told}   {Path(name).stem}"
        path = out_dir / name
        with written(path, through_links=False) as partial:
            _captioned(picture, caption).save(partial, "PNG", pnginfo=png_mark(), compress_level=PNG_LEVEL)
        made.append(path)
    return made


def check_files(record: Record, view: View, *, many: bool) -> None:
    """Raises ValueError when a view has more maps than overlays may be written at once."""
    count = math.prod(view.lead)
    if count > MAX_FILES:
        raise ValueError(f"export: got {count} maps, expected {MAX_FILES}; ask for fewer layers, heads or steps")
    if many:
        return
    size = _enlarged(record).size
    most = min(MANY_FILES, MANY_PIXELS // (size[0] * size[1]))
    if count > most:
        raise ValueError(
            f"export: got {count} maps of {size[0]} x {size[1]} px in view {view.name!r}, expected {most} at "
            "once; name another --view, other kinds (--as), or add --many"
        )


def file_names(record: Record, view: View) -> list[tuple[str, str]]:
    """(file name, token text) of every map of a view, in the order of its axes."""
    rows: list[tuple[str, str]] = [("", record.answer)]
    if "query" in view.axes:
        rows = list(_rows(record))
    names = []
    for (stem, token), slot in itertools.product(rows, _slots(view)):
        name = "_".join(part for part in (stem, slot) if part) or "mean"
        names.append((f"{name}.png", visible(token)))
    return names


def write_text_log(record: Record, path: Path) -> None:
    """The older toolkit's text log: times, prompt, selection, text, step -> token, ids, processor, shapes."""
    facts = record.facts
    lines = [LOG_HEAD, "", "times:", *(f"  {key}: {value}" for key, value in flatten(record.run))]
    lines += ["", f"prompt: {facts.prompt.text}", f"rendered prompt: {facts.prompt.rendered}", ""]
    for view in record.views.values():
        chosen, sizes = view.facts, view.sizes
        lines += [
            f"view: {view.name}",
            f"  steps: {wording.ranges(chosen.steps) if chosen.steps else _steps(record)}",
            f"  layers: {sorted({pair[0] for pair in chosen.pairs}) or list(chosen.layers)}",
            f"  heads: {[list(pair) for pair in chosen.pairs] or list(chosen.heads)}",
            f"  aggregation: {chosen.reduction}",
            *([] if chosen.quantity.is_share else [f"  values: {method_text(chosen.method, chosen.quantity)}"]),
            f"  output shape: {' x '.join(str(size) for _, size in sizes)} ({', '.join(axis for axis, _ in sizes)})",
        ]
    lines += ["", f"generated text: {facts.answer}", f"finish reason: {facts.finish_reason}", "", "step -> token:"]
    lines += [f"  {step}: {token.id} {token.piece!r}" for step, token in enumerate(facts.tokens)]
    lines += [
        "",
        f"model: {facts.model.name} ({wording.at_revision(facts.model.source, facts.model.revision)})",
        f"run with: {facts.model.dtype}, {facts.model.attention}, {facts.model.device}",
        f"input ids: {list(facts.prompt.ids)}",
        f"image tokens: {', '.join(f'{start} to {start + count - 1}' for start, count in image_runs(record.grids))}",
        *([f"grid: {record.grid_name}"] if isinstance(record, OneGrid) else []),
        f"image: {facts.image.width_px} x {facts.image.height_px} px, sha256 {facts.image.sha256}",
        f"processor: {record.geometry.to_json()}",
        f"software: {facts.software}",
    ]
    with written(path, through_links=False) as partial:
        partial.write_text("\n".join(visible(line.replace("\n", "\\n")) for line in lines) + "\n", encoding="utf-8")


def _rows(record: Record) -> Iterator[tuple[str, str]]:
    texts = prompt_texts(record)
    for query in record.queries:
        if query.kind == "answer":
            yield f"step_{query.step}", token_label(own_text(record.tokens[query.token]))[0]
        else:
            yield f"question_{query.position}", token_label(texts[query.token])[0]


def _slots(view: View) -> list[str]:
    facts = view.facts
    if "layer_head" in view.axes:
        return [f"layer_{layer}_head_{head}" for layer, head in facts.pairs]
    labels = {"layer": [f"layer_{n}" for n in facts.layers], "head": [f"head_{n}" for n in facts.heads]}
    kept = [labels[axis] for axis in view.axes if axis in labels]
    return ["_".join(parts) for parts in itertools.product(*kept)]


def _steps(record: Record) -> str:
    return wording.ranges([query.step for query in record.queries if query.kind == "answer"]) or "none"


def _enlarged(record: Record) -> PillowImage.Image:
    """The record's picture or a plain ground, enlarged where it is small."""
    plain = ground(record, MAX_SIDE_PX)
    factor = max(1, min(-(-MIN_SIDE_PX // min(plain.size)), 4 * MAX_SIDE_PX // max(plain.size)))
    return plain.resize((plain.width * factor, plain.height * factor), PillowImage.Resampling.BICUBIC)


def _captioned(picture: PillowImage.Image, caption: str) -> PillowImage.Image:
    """The picture with a caption under it, cut with dots where it is too long."""
    size = max(13, picture.width // 34)
    font, drawn = font_for(cut(caption, size, picture.width - size), size, 400, ())
    canvas = PillowImage.new("RGB", (picture.width, picture.height + 2 * size), "white")
    canvas.paste(picture, (0, 0))
    baseline = picture.height + round(1.35 * size)
    ImageDraw.Draw(canvas).text((size // 2, baseline), drawn, fill="black", font=font, anchor="ls")
    return canvas
