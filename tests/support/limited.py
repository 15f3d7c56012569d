"""A process that really runs out of memory: a wide random model under an address space limit; prints JSON.

Flow: model -> answers without a limit -> a limit that the size check sees -> one that it does not see, so that
allocations fail -> one that holds one request but no batch -> no limit again.
"""

from __future__ import annotations

import json
import resource
import sys

import psutil
import torch
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.fit import room
from llava_server.load.memory import DeviceMemory
from llava_wire import Record, RequestError
from support.pictures import scene_bytes


def wide_engine(folder: str) -> Engine:
    """One text layer whose MLP is so wide that a prefill takes hundreds of MB; tokenizer and processor of `folder`."""
    config = LlavaConfig.from_pretrained(folder)
    config.text_config.update({"hidden_size": 64, "intermediate_size": 250_000, "num_hidden_layers": 1})
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).float()
    return Engine.from_model(model, AutoProcessor.from_pretrained(folder, backend="pil"))


def requests(count: int) -> list[GenerateRequest]:
    """Short questions about different pictures."""
    pictures = [scene_bytes(120, 90, seed) for seed in range(count)]
    return [GenerateRequest.build(picture, "Describe the image.", {"max_new_tokens": 3}) for picture in pictures]


def seen(results: list[Record | RequestError]) -> list[object]:
    """Answers, and refusals as [code, field, message]."""
    return [r.answer if isinstance(r, Record) else [r.code, r.field, r.message] for r in results]


def main(folder: str) -> None:
    """Prints what happened, as JSON."""
    torch.set_num_threads(1)
    engine, process = wide_engine(folder), psutil.Process()
    unlimited = resource.getrlimit(resource.RLIMIT_AS)

    def limit(extra_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (process.memory_info().vms + extra_bytes, unlimited[1]))

    report: dict[str, object] = {"before": seen(engine.run(requests(3)))}
    needed = engine.estimate(requests(1)[0]).device_bytes
    resident = process.memory_info().rss
    limit(40 << 20)
    report["checked"] = seen(engine.run(requests(1)))
    room.device_memory = lambda device: DeviceMemory("cpu", 1 << 40, 1 << 40, "free memory")
    report["ran out"] = seen(engine.run(requests(3)))
    limit(int(1.3 * needed))
    report["one by one"] = [r.run["batch_size"] if isinstance(r, Record) else str(r) for r in engine.run(requests(3))]
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    report["after"] = seen(engine.run(requests(3)))
    report |= {"needed": needed, "grown": process.memory_info().rss - resident}
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
