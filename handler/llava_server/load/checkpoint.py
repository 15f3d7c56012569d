"""Whether a folder holds a model that can be served: one answer for the engine, the server's scripts and estimate.

Flow: files (`checkpoint_files`: names, JSON, heads; milliseconds) -> configuration and processor as transformers reads
them -> the checks of `loading` -> tokenizer and prompts -> the default views. No weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llava_doors.family import Family, ModelFacts
from llava_server.ask.options import parse_options
from llava_server.ask.plan import make_plan
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.load.checkpoint_files import read_configuration, read_folder
from llava_server.load.family import as_settings_errors, family_in, reason
from llava_wire.errors import RequestError

_CURE = "complete it"


def check_files(folder: Path, settings: ModelSettings, cure: str = _CURE) -> None:
    """The part of `check_checkpoint` that needs neither torch nor transformers, for a start that must be quick.

    Raises:
        SettingsError: as `check_checkpoint`.
    """
    with _named(settings):
        read_folder(folder, cure)


def check_configuration(folder: Path, settings: ModelSettings, cure: str = _CURE) -> Family:
    """The family of a model whose weights need not be there.

    Args:
        folder: of config.json.
        settings: the model's.
        cure: what to do when it is not there.

    Returns:
        the family, with the configuration.

    Raises:
        SettingsError: for a model of a kind that is not served, with the words of `check_checkpoint`.
    """
    with _named(settings):
        kind = read_configuration(folder, cure)["model_type"]
        family = family_in(folder, kind)
        _check_views(_facts(family), settings)
    return family


def check_checkpoint(folder: Path, settings: ModelSettings, cure: str = _CURE) -> tuple[Family, Any]:
    """Checks everything about a checkpoint that can be known without its weights.

    Args:
        folder: config.json, *.safetensors, tokenizer and processor files.
        settings: the model's; its default views and head sets must exist in the model.
        cure: what to do when files are missing.

    Returns:
        the family, with the configuration, and the processor.

    Raises:
        SettingsError: for the first thing that cannot work, with what is allowed and what to do.
    """
    with _named(settings):
        kind = read_folder(folder, cure)["model_type"]
        family = family_in(folder, kind)
        facts = _facts(family)
        _check_views(facts, settings)
        processor = _processor(folder, family, facts)
    return family, processor


@contextmanager
def _named(settings: ModelSettings) -> Iterator[None]:
    """Says whose weights an error is about: several models may be served at once."""
    try:
        yield
    except SettingsError as error:
        # The same error, not one after it: a worker's log is read for the first.
        error.args = (f"weights of {settings.name}: {error}",)
        raise


def _facts(family: Family) -> ModelFacts:
    # Here and below: these imports take seconds, and most refusals need none of them.
    import torch

    with as_settings_errors():
        return family.facts(torch.float32)


def _check_views(facts: ModelFacts, settings: ModelSettings) -> None:
    """Layers and heads of the YAML's views and head sets must exist, or every request would be refused."""
    try:
        make_plan(parse_options({"max_new_tokens": 1}), facts, settings)
        for name in settings.head_sets:
            make_plan(parse_options({"max_new_tokens": 1, "heads": name}), facts, settings)
    except RequestError as error:
        raise SettingsError(
            f"handler.default_views and head_sets: got one that this model does not have ({error}); mend the YAML"
        ) from error


def _processor(folder: Path, family: Family, facts: ModelFacts) -> Any:
    from llava_server.read.prompt import PromptEncoder

    try:
        processor = family.read_processor(folder)
    except Exception as error:
        raise SettingsError(
            f"tokenizer and processor: got {reason(error)}, expected files that transformers reads (a tokenizer.model "
            f"alone must become a tokenizer.json first); mend {folder}"
        ) from error
    with as_settings_errors():
        family.check_processor(processor)
    tokenizer, image_id, rows = processor.tokenizer, family.image_token_id, facts.vocabulary
    stated = getattr(processor, "image_token", None)
    if stated is not None and tokenizer.convert_ids_to_tokens(image_id) != stated:
        raise SettingsError(
            f"config.image_token_id: got {image_id}, the tokenizer's "
            f"{tokenizer.convert_ids_to_tokens(image_id)!r}, expected the id of {stated!r} "
            f"({tokenizer.convert_tokens_to_ids(stated)}); the files belong to different models"
        )
    # Tokens that were added and that no embedding was made for are refused where they are needed.
    highest = max(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))
    if highest >= rows:
        raise SettingsError(
            f"tokenizer: got ids up to {highest}, expected those below the {rows} of config.text_config.vocab_size; "
            "the files belong to different models"
        )
    PromptEncoder(processor, image_id, rows, family.placeholder(tokenizer))
    return processor
