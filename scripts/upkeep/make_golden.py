"""Writes the golden files of the viewer's tests anew; look at the difference before committing it.

Example: python -m upkeep.make_golden
"""

from __future__ import annotations

import argparse
import sys

from servekit.paths import ROOT


def main() -> int:
    """Renders every golden page and prints the files that changed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.path[:0] = [str(ROOT / part) for part in ("handler", "viewer", "tests")]
    from support.golden import GOLDEN, PAGES, golden_text

    GOLDEN.mkdir(exist_ok=True)
    for name in PAGES:
        path = GOLDEN / name
        text = golden_text(name)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
