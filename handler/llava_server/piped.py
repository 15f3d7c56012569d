"""The engine in a process of its own, asked over a pipe: for runs over many images without a server.

Flow: `python -m llava_server.piped MODEL` -> a frame that says what was loaded -> frames of questions on stdin, of
which those up to a mark `flush` form batches -> a frame with the record, or the refusal, of each on stdout. What
libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llava_server.ask.request import GenerateRequest
from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.system.frames import FrameError, read_frame, write_frame
from llava_wire.writing import encode

if TYPE_CHECKING:
    from llava_server.engine import Engine

TOGETHER = 32
"""The most questions that form batches together, as many as `Engine.answers` looks at."""
_STORES = (Path("model_store"), Path(__file__).parents[2] / "model_store")
"""Where a model's name is looked up: in the present folder, then in the checkout that this is run from."""
Asked = tuple[Any, list[bytes]]


def main(argv: Sequence[str] | None = None) -> int:
    """Loads the model and answers until stdin ends."""
    parser = argparse.ArgumentParser(
        prog="python -m llava_server.piped",
        description="Answer questions that come over stdin, for llava-viewer run --engine.",
        epilog="example:\n  llava-viewer run images/ --prompt 'Describe the image.' --engine llava-things -o out/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a model of model_store, its YAML, or a checkpoint folder")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or map")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks, who then closes the pipe
    source, sink = sys.stdin.buffer, _own_stdout()
    try:
        place = _place(arguments.model)
        # Only now: its libraries take seconds to load, and a wrong name is told before.
        from llava_server.engine import Engine

        engine = Engine.load(place, device=arguments.device, dtype=arguments.dtype)
    except (ValueError, OSError, RequestError) as error:
        write_frame(sink, {"failed": str(error)})
        return 1
    settings = engine.settings
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        write_frame(sink, {"ready": settings.name, "revision": settings.revision})
        answer(engine, source, sink)
    return 0


def answer(engine: Engine, source: BinaryIO, sink: BinaryIO) -> None:
    """Answers what comes from `source` until it ends, in its order.

    Args:
        engine: the loaded model.
        source: frames {"n", "prompt", "options"} with the images' files, or {"n", "replay": true, "options"} with a
            record's file and them; and {"flush": true}.
        sink: gets frames {"n"} with the record's file, or {"n", "error"}.
    """
    for group in _groups(_ahead(source)):
        write_frame(sink, {"begun": [plain["n"] for plain, _ in group]})
        asked: list[tuple[int, GenerateRequest]] = []
        for plain, images in group:
            try:
                asked.append((plain["n"], _request(plain, images)))
            except RequestError as error:
                write_frame(sink, {"n": plain["n"], "error": error.to_body()})
        results = engine.answers(request for _, request in asked)
        for (number, _), result in zip(asked, results, strict=True):
            if isinstance(result, Record):
                write_frame(sink, {"n": number}, [encode(result)])
            else:
                write_frame(sink, {"n": number, "error": result.to_body()})


def _request(plain: Any, parts: list[bytes]) -> GenerateRequest:
    """What a frame asks for.

    Raises:
        RequestError: it cannot be asked.
    """
    if plain.get("replay"):
        return GenerateRequest.replay(parts[0], plain["options"], parts[1:] or None)
    return GenerateRequest.build(parts, plain["prompt"], plain["options"])


def _place(model: str) -> str:
    """What a model's name means: a path, or a model of a store.

    Raises:
        ValueError: neither is there.
    """
    for path in (Path(model), *(store / model for store in _STORES)):
        if path.exists() or Path(f"{path}.yaml").exists():
            return str(path)
    stores = [store.absolute() for store in _STORES if store.is_dir()]
    named = ", ".join(sorted({one.stem for store in stores for one in store.glob("*.yaml")}))
    looked = stores[0] if stores else _STORES[0].absolute()
    raise ValueError(
        f"model: got {model!r}, expected a checkpoint folder, a model's YAML, or a name of {looked} "
        f"({named or 'which is not there: run this where it is'})"
    )


def _groups(frames: Iterator[Asked]) -> Iterator[list[Asked]]:
    """Questions that form batches together: up to a mark, and not too many. The same ones however fast they come."""
    group: list[Asked] = []
    for frame in frames:
        if "flush" not in frame[0]:
            group.append(frame)
        if group and (len(group) == TOGETHER or "flush" in frame[0]):
            yield group
            group = []
    if group:
        yield group


def _ahead(source: BinaryIO) -> Iterator[Asked]:
    """Frames, some read ahead while the model runs."""
    coming: queue.Queue[Asked | None] = queue.Queue(2 * TOGETHER)

    def read() -> None:
        try:
            while (frame := read_frame(source)) is not None:
                coming.put(frame)
        except (FrameError, OSError):
            pass  # whoever asked is gone
        finally:
            coming.put(None)

    threading.Thread(target=read, name="questions", daemon=True).start()
    while (frame := coming.get()) is not None:
        yield frame


def _own_stdout() -> BinaryIO:
    """The pipe to whoever asks; whatever else is printed in this process goes to stderr from now on."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


if __name__ == "__main__":
    sys.exit(main())
