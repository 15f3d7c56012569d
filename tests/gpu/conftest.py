"""GPU tests need a CUDA device; elsewhere they are skipped and say so, unless `--device cpu` asks for a rehearsal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device cpu`, known when this folder is named: the same tests on the CPU, before a GPU is at hand."""
    parser.addoption("--device", default="cuda", help="cpu: a rehearsal of the GPU tests without a GPU")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks everything in this folder as gpu, and skips it where PyTorch sees no CUDA device.

    Args:
        items: The tests of the whole run, not of this folder alone.
    """
    rehearsal = config.getoption("--device", default="cuda") != "cuda"
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
            if not (rehearsal or torch.cuda.is_available()):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; PyTorch sees none here"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where the tests run: "cuda", or "cpu" in a rehearsal."""
    return str(request.config.getoption("--device", default="cuda"))
