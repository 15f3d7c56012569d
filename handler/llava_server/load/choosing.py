"""How the next token is chosen: what a checkpoint's generation_config.json says, and what a request says.

Flow: published GenerationConfig -> `published` -> the part that is followed, and a note -> with a request's options ->
transformers' own logits processors, the same for greedy, sampled and streamed answers; beam search reads the same
configuration. The request decides how to search and how long; a sampling value that it does not name is the
checkpoint's; whatever else the checkpoint asks for (suppressed tokens, a repetition penalty) always takes part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from llava_server.ask.decoding import decoding_of
from llava_server.ask.options import Options
from llava_wire.schema import Note

_ALWAYS = (
    "sequence_bias", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "min_length", "min_new_tokens",
    "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens",
)  # fmt: skip
_SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
_ELSEWHERE = frozenset(
    {
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
        "do_sample", "num_beams", "num_return_sequences", "length_penalty", "max_length", "max_new_tokens",
        "use_cache", "cache_implementation", "cache_config", "output_attentions", "output_hidden_states",
        "output_scores", "output_logits", "return_dict_in_generate", "_from_model_config",
    }
)  # fmt: skip
"""What the request decides, or what ends and pads answers: read elsewhere, or of no effect on which token is chosen."""


def published(config: GenerationConfig) -> tuple[GenerationConfig | None, tuple[Note, ...]]:
    """The part of a checkpoint's generation configuration that is followed.

    Args:
        config: what the model came with.

    Returns:
        a configuration of those fields alone, None when there are none; what every record must say about it.
    """
    given = {name: value for name, value in config.to_diff_dict().items() if value is not None}
    followed = {name: given[name] for name in (*_ALWAYS, *_SAMPLING) if name in given}
    always = [f"{name} {_short(followed[name])}" for name in _ALWAYS if name in followed]
    left = sorted(given.keys() - {*_ALWAYS, *_SAMPLING} - _ELSEWHERE)
    notes = []
    if always:
        notes.append(
            Note(
                "generation-config",
                "model",
                f"The checkpoint's generation_config.json takes part in choosing tokens: {', '.join(always)}. "
                "The probabilities shown are those before it.",
            )
        )
    if left:
        names = ", ".join(left)
        text = f"The checkpoint's generation_config.json also names {names}, which is not followed here."
        notes.append(Note("generation-config-ignored", "model", text))
    return (GenerationConfig(**followed) if followed else None), tuple(notes)


def effective(options: Options, config: GenerationConfig | None) -> Options:
    """The options with the checkpoint's sampling values where a sampled request names none."""
    if not decoding_of(options).draws:
        return options
    values: dict[str, Any] = {"temperature": 1.0}
    for name in ("temperature", "top_k", "top_p"):
        value = getattr(config, name, None)
        if value:  # a top_k of 0 means none
            values[name] = value
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    return replace(options, **values)


def processors(
    model: Any, config: GenerationConfig | None, options: Options, prompt_tokens: int, eos_ids: Sequence[int]
) -> LogitsProcessorList:
    """transformers' own processors for one request, in generate's order; empty for plain greedy decoding.

    Args:
        model: the generating model, on its device.
        config: the followed part of the checkpoint's configuration, or None.
        options: the request's, with `effective` sampling values.
        prompt_tokens: tokens of the prompt, image tokens included.
        eos_ids: ids that end an answer.
    """
    draws = decoding_of(options).draws
    if config is None and not draws:
        return LogitsProcessorList()
    device = model.get_input_embeddings().weight.device
    asked = copy.deepcopy(config) if config is not None else GenerationConfig()
    asked.do_sample = draws
    asked.temperature, asked.top_k, asked.top_p = options.temperature, options.top_k, options.top_p
    asked.num_beams = 1
    asked.max_length = prompt_tokens + options.max_new_tokens
    asked._eos_token_tensor = torch.tensor(list(eos_ids), device=device)
    return model._get_logits_processor(asked, input_ids_seq_length=prompt_tokens, device=str(device))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
