"""GPU tests need a CUDA device; elsewhere they are skipped and say so."""

from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder as gpu, and skips it where PyTorch sees no CUDA device."""
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; PyTorch sees none here"))
