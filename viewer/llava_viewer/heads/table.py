"""What a search found, as text: a table per kind of words and criterion, the sets, and how a request takes them.

Flow: `Findings` -> lines for a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from llava_eval.criterion import CRITERIA
from llava_eval.ranking import Head, Ranking
from llava_viewer.heads.findings import Findings, Table, counted
from llava_viewer.heads.sets import set_name
from llava_viewer.look.wording import at_revision

_SHOWN = 5
_NO_INTERVAL = "one image has none"


def lines(findings: Findings) -> list[str]:
    """The whole of it; what comes from models and files may hold anything, and is made safe by whoever prints it."""
    model = findings.model
    rows = "the words" if findings.rows == "answer" else "the question"
    asked = at_revision(model.name, model.revision)
    head = [
        f"{asked}: {model.layers} layers x {model.heads} heads, counted from 0; rows: {rows}",
        f"{counted(findings.questions, 'question')} about {counted(findings.images, 'image')}; {_words(findings)}",
    ]
    criteria = dict.fromkeys(table.criterion for table in findings.tables)
    found = [head + [f"{name}: {CRITERIA.find(name).summary}" for name in criteria], *map(_table, findings.tables)]
    if findings.roles:
        found.append(_roles(findings.roles))
    found.append(_sets(findings))
    return [line for number, part in enumerate(found) for line in ([""] if number else []) + part]


def _words(findings: Findings) -> str:
    if findings.rows == "question":
        return "their last tokens"
    told = counted(findings.words, "word")
    return told if findings.needing is None else f"{told}, {findings.needing} of them need the image"


def _table(table: Table) -> list[str]:
    ranking = table.ranking
    shown = ranking.order()[: max(_SHOWN, len(ranking.chosen))]
    rows = [("  head", "score", "95 % over images")]
    rows += [(f"{'*' if one in ranking.chosen else ' '} L{one[0]}H{one[1]}", *_cells(ranking, one)) for one in shown]
    title = (
        f"{table.kind} by {table.criterion}, n = {counted(ranking.words, 'word')}, {counted(ranking.images, 'image')}"
    )
    told = [f"{title} ({', '.join(table.texts)})", *_aligned(rows)]
    if ranking.alike > len(ranking.chosen):
        told.append(f"  {ranking.alike} heads are as good as the best by these words; more images tell them apart")
    return told


def _roles(roles: Sequence[Table]) -> list[str]:
    rows = [("  role", "head", "agreement", "words", "found again", "")]
    for one in roles:
        [head] = one.ranking.chosen
        again = "-" if one.again is None else f"in {one.again * 100:.0f} of 100 draws"
        rows.append(
            (f"  {one.kind}", f"L{head[0]}H{head[1]}", f"{one.ranking.scores[head]:.3f}", str(one.ranking.words), again,
             ", ".join(one.texts))
        )  # fmt: skip
    return ["roles: the fewest heads that serve all words between them, each with its words", *_aligned(rows)]


def _sets(findings: Findings) -> list[str]:
    named = [(set_name(one), one) for one in findings.tables]
    named += [(set_name(one, role=True), one) for one in findings.roles]
    views = [
        f"  --view name={name},heads={pairs_text(one.ranking.chosen)},reduction=layers_heads" for name, one in named
    ]
    yaml = [f"    {name}: {[list(head) for head in one.ranking.chosen]}" for name, one in named]
    return ["heads marked * as views of predict and replay:", *views, "and in the model's YAML:", "  head_sets:", *yaml]


def pairs_text(heads: Sequence[Head]) -> str:
    """Heads as the command line takes them: 2.7,1.4."""
    return ",".join(f"{layer}.{head}" for layer, head in heads)


def _cells(ranking: Ranking, head: Head) -> tuple[str, str]:
    if ranking.low is None or ranking.high is None:
        return f"{ranking.scores[head]:.3f}", _NO_INTERVAL
    return f"{ranking.scores[head]:.3f}", f"{ranking.low[head]:.3f} to {ranking.high[head]:.3f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
