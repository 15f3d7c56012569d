"""An untrained small LLaVA and its processor, built once for all tests of this folder."""

import pytest


@pytest.fixture(scope="session")
def tokenizer():
    from shapes.tokenizer import build_tokenizer

    return build_tokenizer(0)


@pytest.fixture(scope="session")
def processor(tokenizer):
    from shapes.model import build_processor

    return build_processor(tokenizer)


@pytest.fixture(scope="session")
def model(tokenizer):
    import torch

    from shapes.model import build_model

    torch.manual_seed(0)
    return build_model(tokenizer).eval()
