"""The list of dependencies is the installed one: names, versions, licences, and nothing that is not pinned."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from upkeep.list_dependencies import PAGE, needed_by, page, pinned


def test_the_page_is_what_the_metadata_says() -> None:
    assert page() == PAGE.read_text("utf-8"), "run: python -m upkeep.list_dependencies"


def test_everything_that_an_installation_brings_is_pinned() -> None:
    names = {canonicalize_name(name) for name in pinned()}
    missing = {name for name in needed_by() if name not in names}
    # What a CUDA build of torch brings is pinned by torch itself, name by name; the rest are pip's own tools.
    assert {name for name in missing if not re.match(r"nvidia-|cuda-|triton|setuptools$|wheel$", name)} == set()
