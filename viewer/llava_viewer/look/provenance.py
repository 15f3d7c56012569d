"""The metadata section: everything in a record that a reader needs to trust or repeat it -> `FactGroup`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llava_viewer.look import wording
from llava_viewer.look.selection import reduction_text, selection_text
from llava_viewer.look.units import method_text, unit_of
from llava_viewer.look.view_model import Fact, FactGroup, Stage
from llava_wire.findings.patches import NAME as PATCH_CHECK
from llava_wire.grids import Grid, Run, Step, image_runs
from llava_wire.quantity import ATTENTION
from llava_wire.record import Record
from llava_wire.schema import IMAGE_CHECK, Annotations, Image, MethodFacts, ViewFacts

_FINISH = {
    "stop": "stop: the model wrote its end token",
    "length": "length: the limit on new tokens was reached",
    "deadline": "deadline: the time limit was reached",
}
_PRECISION = {
    "uint8": "8 bits per value, one scale per map",
    "float16": "float16; shown here in 8 bits per map",
    "float32": "float32; shown here in 8 bits per map",
    "blocks": "the largest patches exact, beside sums of blocks of 4 × 4 patches in 8 bits",
}
CAUSAL = "causal_effect"
"""What a causal test of the answer is called in a record's checks; it has a `result`, and numbers."""
ROW_RULE = (
    "Answer token t: the row of the forward step that predicted it. Step 0 is the last position of the prompt; "
    "step t reads from the position of token t − 1."
)


def fact_groups(record: Record, stages: Sequence[Stage]) -> tuple[FactGroup, ...]:
    """All groups, in the order they are shown."""
    return (
        _question(record),
        _answer(record),
        *_views(record),
        *_texts(record),
        _model(record),
        *_images(record, stages),
        *_mapping_group("Software", record.facts.software),
        *_mapping_group("This run", record.run),
    )


def _question(record: Record) -> FactGroup:
    prompt = record.facts.prompt
    runs = image_runs(record.grids)
    places = ", ".join(f"{start}–{start + count - 1}" for start, count in runs)
    return FactGroup(
        "Question",
        (
            *([Fact("System prompt", prompt.system, "block")] if prompt.system else []),
            *(Fact(f"Turn {i}, {turn.role}", turn.text, "block") for i, turn in enumerate(prompt.turns, start=1)),
            Fact("Prompt", prompt.text, "block"),
            Fact("Template", prompt.template),
            Fact("Rendered prompt", prompt.rendered, "block"),
            Fact("Prompt tokens", f"{len(prompt.ids)}, of which image tokens at positions {places}"),
            Fact("Prompt token ids", _ids(prompt.ids, runs), "code"),
        ),
    )


def _ids(ids: tuple[int, ...], runs: Sequence[Run]) -> str:
    """The ids with the runs of image tokens shortened, so that the rest can be read."""
    told: list[str] = []
    end = 0
    for start, count in runs:
        image = ids[start : start + count]
        told += map(str, ids[end:start])
        told += [f"{image[0]} × {count}"] if len(set(image)) == 1 else map(str, image)
        end = start + count
    return " ".join([*told, *map(str, ids[end:])])


def _answer(record: Record) -> FactGroup:
    facts = record.facts
    kinds = [query.kind for query in record.queries]
    rows = f"{kinds.count('answer')} answer rows"
    if "prompt" in kinds:
        rows += f", {kinds.count('prompt')} question rows"
    return FactGroup(
        "Answer",
        (
            Fact("Text", facts.answer, "block"),
            Fact("Token ids", " ".join(str(token.id) for token in facts.tokens), "code"),
            Fact("Finish reason", _FINISH[facts.finish_reason]),
            Fact("Sampling", _sampling(facts.sampling)),
            Fact("Rows recorded", rows),
            Fact("Row rule", ROW_RULE),
            Fact("Causal effect", causal_text(record)),
            *_annotations(facts.annotations),
        ),
    )


def causal_text(record: Record) -> str:
    """What a causal test of this answer found, in words; "not tested" where the record holds none."""
    checks = record.facts.checks
    name = next((one for one in (CAUSAL, PATCH_CHECK, IMAGE_CHECK) if one in checks), CAUSAL)
    return wording.check_text(checks.get(name, {}), name)


def _annotations(annotations: Annotations | None) -> list[Fact]:
    """What a client said of the answer."""
    if annotations is None:
        return []
    facts = [Fact("Judged", f"{wording.verdict(annotations.right)}{wording.judged_by(annotations.rule)}")]
    if annotations.expected:
        facts.append(Fact("Expected", annotations.expected, "block"))
    return [*facts, *([Fact("Tags", ", ".join(annotations.tags))] if annotations.tags else [])]


def _sampling(given: Mapping[str, Any]) -> str:
    """How the tokens were chosen, in words; what this version does not know keeps its name."""
    known = dict(given)
    words = []
    if known.pop("greedy", not given):
        words.append("greedy")
    if "num_beams" in known:
        penalty = known.pop("length_penalty", 1)
        words.append(f"beam search with {known.pop('num_beams')} beams, length penalty {penalty}")
    if isinstance(known.get("score"), float):
        words.append(f"score {known.pop('score'):.4f}")
    if "max_new_tokens" in known:
        words.append(f"at most {known.pop('max_new_tokens')} tokens")
    if isinstance(known.get("sequence"), int) and "sequences" in known:
        words.append(f"answer {known.pop('sequence') + 1} of {known.pop('sequences')}")
    return ", ".join([*words, *(f"{key.replace('_', ' ')} {value}" for key, value in known.items())])


def _views(record: Record) -> list[FactGroup]:
    groups = []
    for view in record.views.values():
        facts = view.facts
        shape = " × ".join(f"{size} {axis.replace('_', '-')}" for axis, size in view.sizes)
        groups.append(
            FactGroup(
                f"View “{view.name}”",
                (
                    *_measured(facts),
                    Fact("Layers and heads", selection_text(facts, record.facts.model)),
                    Fact("Reduction", f"{facts.reduction}: {reduction_text(facts)}"),
                    Fact("Stored maps", shape),
                    Fact("Precision", f"{facts.precision} ({facts.encoding}): {_PRECISION[facts.precision]}"),
                    Fact("Largest error of a value", unit_of(view).error(facts.error_bound)),
                    *(
                        []
                        if facts.block_error_bound is None
                        else [Fact("Largest error of a block's sum", unit_of(view).error(facts.block_error_bound))]
                    ),
                ),
            )
        )
    return groups


def _texts(record: Record) -> list[FactGroup]:
    """Views of text, which have tokens for columns."""
    return [
        FactGroup(
            f"View “{view.name}”, of text",
            (
                Fact("Method and quantity", method_text(view.facts.method, view.facts.quantity)),
                Fact("Layers and heads", f"mean of {selection_text(view.facts, record.facts.model)}"),
                Fact("Columns", f"{len(view.positions)} tokens of prompt and answer, none of them a patch"),
            ),
        )
        for view in record.texts.values()
    ]


def _measured(facts: ViewFacts) -> list[Fact]:
    """Method and quantity of a view that does not show attention as it is."""
    if facts.quantity == ATTENTION and facts.method == MethodFacts():
        return []
    return [Fact("Method and quantity", method_text(facts.method, facts.quantity))]


def _model(record: Record) -> FactGroup:
    model = record.facts.model
    # A record of an earlier writer holds no checks, which is not the same as a passed one.
    tested = {name: check for name, check in record.facts.checks.items() if name not in (CAUSAL, PATCH_CHECK)}
    checks = tested or {"self_test": {"result": "not recorded"}}
    return FactGroup(
        "Model",
        (
            Fact("Name", model.name),
            Fact("Source", model.source, "code"),
            Fact("Revision", model.revision, "code"),
            Fact("Size", f"{model.layers} layers of {model.heads} heads"),
            Fact("dtype", model.dtype),
            Fact("Attention", model.attention),
            Fact("Device", model.device),
            *(Fact(wording.check_name(name), wording.check_text(check, name)) for name, check in checks.items()),
        ),
    )


def _images(record: Record, stages: Sequence[Stage]) -> list[FactGroup]:
    """The pictures and the grids on them; what is one of each is one group."""
    images, grids = record.facts.images, record.grids
    if len(grids) == 1:
        return [FactGroup("Image", (*_image(images[0]), *_grid(grids[0], stages[0])))]
    titles = [f"Image {number}" if len(images) > 1 else "Image" for number in range(1, len(images) + 1)]
    return [
        *(FactGroup(title, _image(image)) for title, image in zip(titles, images, strict=True)),
        *(
            FactGroup(f"Grid “{grid.name}”", (Fact("Of", titles[grid.image]), *_grid(grid, stage)))
            for grid, stage in zip(grids, stages, strict=True)
        ),
    ]


def _image(image: Image) -> tuple[Fact, ...]:
    return (
        Fact("Size", f"{image.width_px} × {image.height_px} px, upright"),
        Fact("sha256 of the file", image.sha256, "code"),
        Fact("sha256 of the pixels", image.pixels_sha256, "code"),
    )


def _grid(grid: Grid, stage: Stage) -> tuple[Fact, ...]:
    facts = [
        Fact("Preparation", "; ".join(_step(step) for step in grid.steps) or "none"),
        Fact("Patches", f"{grid.rows} rows × {grid.cols} columns of {grid.patch_px} px each, as prepared"),
        Fact("Seen by the model", f"{stage.seen_text} of the image's area"),
    ]
    if stage.unseen_text:
        facts.append(Fact("Not seen", f"{stage.unseen_text} of the image's area, hatched on the image"))
    return tuple(facts)


def _step(step: Step) -> str:
    size = f"{step.width_px} × {step.height_px} px"
    if step.op == "resize":
        return f"resize to {size}"
    return f"{step.op} to {size} at ({step.left_px}, {step.top_px})"


def _mapping_group(title: str, values: Mapping[str, Any]) -> list[FactGroup]:
    facts = tuple(Fact(key, text) for key, text in flatten(values))
    return [FactGroup(title, facts)] if facts else []


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A mapping of plain values as (label, text) pairs; nested ones with dotted labels, units taken from the name."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{name}.")
        elif isinstance(value, float):
            pairs.append((name, f"{value:.6g}"))
        elif isinstance(value, list | tuple):
            pairs.append((name, ", ".join(str(item) for item in value)))
        else:
            pairs.append((name, str(value)))
    return pairs
