"""Renders docs/benchmarks/README.md from the results files beside it.

Flow: docs/benchmarks/*.json -> bench.parts.table -> docs/benchmarks/README.md; `--check` only compares.
Example: python -m bench.table --check
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.parts.results import FOLDER
from bench.parts.table import render


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when the table is written or already true; 1 when `--check` finds another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the JSON files are (docs/benchmarks)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the table is out of date")
    given = parser.parse_args(arguments)
    text, target = render(given.folder), given.folder / "README.md"
    if not given.check:
        target.write_text(text, encoding="utf-8")
        print(target.name)
        return 0
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        print(f"{target.name}: got an old table, expected that of the JSON files; run bench.table", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
