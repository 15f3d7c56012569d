"""The examples of a document, in the order a reader meets them, and what the document says comes out.

Flow: Markdown -> `examples_of` -> blocks of shell and Python, commands in running text -> `shown` or `shown_python`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FOUND = re.compile(r"^```(?P<kind>\w*)\n(?P<block>.*?)^```|`(?P<inline>llava-viewer [^`]+)`", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"\.\.\.|\b[A-Z]{3,}\b(?!=)|<\w+>")


@dataclass(frozen=True)
class Example:
    """One example: "shell" or "python", and its text."""

    kind: str
    text: str


def examples_of(document: str) -> list[Example]:
    """Every block, and every whole `llava-viewer` command in running text: one without FILE, RUN or `...` in it."""
    found = []
    for match in _FOUND.finditer(document):
        inline = match["inline"]
        if inline is None:
            found.append(Example("python" if match["kind"] == "python" else "shell", match["block"]))
        elif not _PLACEHOLDER.search(inline):
            found.append(Example("shell", " ".join(inline.split())))
    return found


def shown(shell: str) -> list[str]:
    """The lines that a shell example shows as its output: whole lines of comment."""
    return [line.removeprefix("# ") for line in shell.splitlines() if line.startswith("# ")]


def shown_python(code: str) -> list[tuple[str, object]]:
    """Per line of a Python example with a result in its comment: the expression and its value.

    An expression with a literal as its comment has that value; what `print` prints is its comment's text.
    """
    results: list[tuple[str, object]] = []
    for line in code.splitlines():
        expression, mark, comment = line.partition("#")
        expression, comment = expression.strip(), comment.strip()
        if not mark or not expression:
            continue
        if expression.startswith("print("):
            results.append((expression, comment))
            continue
        try:
            ast.parse(expression, mode="eval")
            results.append((expression, ast.literal_eval(comment)))
        except (SyntaxError, ValueError):
            continue
    return results


def questions_of(document: str) -> list[tuple[str, str]]:
    """Every (name of a picture that `make demo` draws, question) of a document's examples."""
    pairs = []
    picture = r"demo-out/(?P<picture>[\w-]+)\.png"
    for example in examples_of(document):
        # A picture that the example gave a name before it asks.
        named = dict(re.findall(r"(\w+) = .*?demo-out/([\w-]+)\.png", example.text))
        asked = rf"{picture}(?:(?!demo-out/).)*?[\"'](?P<question>[A-Z][^\"'\n]*[.?])\\?[\"']"
        for match in re.finditer(asked, example.text, re.DOTALL):
            pairs.append((match["picture"], match["question"]))
        for name, question in re.findall(r"\((\w+), [\"']([A-Z][^\"'\n]*[.?])[\"']", example.text):
            if name in named:
                pairs.append((named[name], question))
    return pairs
