"""Whether a model's decode step can be compiled, and the compiled buckets that its YAML asks for.

Flow: settings -> room for the buffers, layers that read a whole text -> `StaticDecoder`, warmed up, or a
`SettingsError` with the reason.
"""

from __future__ import annotations

import torch

from llava_doors.family import ModelFacts
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.load.loading import LoadedModel
from llava_server.load.memory import device_memory
from llava_server.load.probe import observe
from llava_server.run.static import StaticDecoder, picture_of


def buffer_bytes(facts: ModelFacts, patches: int, settings: ModelSettings) -> int:
    """Bytes of the static buffers: keys, values and queries of the largest bucket, which all buckets share.

    Args:
        facts: the model's shape.
        patches: of a picture.
        settings: the model's.
    """
    longest = min(patches + max(settings.compile_text_tokens), facts.context)
    per_slot = facts.layers * facts.head_dim * (2 * facts.kv_heads + facts.heads) * facts.cache_bytes_per_value
    return max(settings.compile_batches) * longest * per_slot


def check_sight(loaded: LoadedModel, length: int) -> None:
    """Refuses models whose layers hide keys, or turn them by other angles, within the length of the buffers.

    The compiled step gives every layer one mask that hides padding alone. Seen by running a text of that length, so
    that no kind of window needs to be known by name.

    Args:
        loaded: the model.
        length: slots of the longest bucket.

    Raises:
        SettingsError: naming the layers.
    """
    hidden = observe(loaded.model, range(length)).hiding
    if not hidden and not loaded.length_dependent:
        return
    found = f"layers {hidden} that do not read a whole text" if hidden else "rotary angles that change with the text"
    raise SettingsError(
        f"handler.compile: got true for a model with {found} of {length} tokens, expected for models that do; set "
        "compile: false, or smaller compile_text_tokens"
    )


def compiled_decoder(loaded: LoadedModel, settings: ModelSettings) -> StaticDecoder:
    """The compiled buckets that a model's YAML asks for, warmed up.

    Raises:
        SettingsError: when this model or this machine cannot compile.
    """
    devices = {str(parameter.device) for parameter in loaded.model.parameters()}
    if len(devices) > 1:
        raise SettingsError(f"handler.compile: got true over {sorted(devices)}, expected one device; set device: cuda")
    picture = picture_of(loaded.family, loaded.processor)
    needed, memory = buffer_bytes(loaded.facts, picture.patches, settings), device_memory(loaded.device)
    if needed > memory.available_bytes:
        raise SettingsError(
            f"handler.compile: got buffers of {needed} bytes, expected {memory}; "
            "lower compile_batches or compile_text_tokens"
        )
    check_sight(loaded, min(picture.tokens + max(settings.compile_text_tokens), loaded.facts.context))
    decoder = StaticDecoder(loaded, settings.compile_batches, settings.compile_text_tokens)
    try:
        decoder.warm_up()
    except torch._inductor.exc.InvalidCxxCompiler as error:
        raise SettingsError(
            "handler.compile: got true without a C++ compiler, expected with one; install g++ or set compile: false"
        ) from error
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(
            f"handler.compile: got {message!r:.200} from a compiled step, expected a text model that decodes on static "
            "buffers; set compile: false"
        ) from error
    return decoder
