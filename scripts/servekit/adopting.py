"""A model that is named by the folder of its checkpoint: a YAML is written for it, and from then on it has a name.

Flow: an argument -> a name, as it is; or a folder -> checked -> model_store/<name>.yaml, written and printed, or the
one that was written before -> its name. A folder that cannot be served is refused before anything is written.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import yaml

from llava_server.ask.settings import DTYPES, ModelSettings
from llava_server.load.checkpoint import check_files
from llava_server.load.checkpoint_files import read_json
from llava_server.load.locate import locate
from servekit import paths
from servekit.models import as_trouble
from servekit.paths import SetupError, shown, writing

_CURE = "correct the path, or complete it"
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 64
_WRITTEN = """\
# Made for the checkpoint in {folder}; yours to change: docs/operations.md, A model of your own.
minWorkers: 1
maxWorkers: 1
batchSize: 4
maxBatchDelay: 20
responseTimeout: 600
startupTimeout: 1200

handler:
  model_path: {quoted}
  dtype: {dtype}{remark}
"""
_HALVED = "  # as it was published; float32 is exact, and quicker on a CPU, with twice the memory"


def adopted(argument: str, say: Callable[[str], None]) -> str:
    """The name of a model that is named by itself or by a folder.

    Args:
        argument: a name, or the path of a folder, which has a slash in it or is there, or of a model's YAML.
        say: what is told of a YAML that is written.

    Raises:
        SetupError: the folder holds nothing that can be served, or its name is that of another model.
    """
    path = Path(os.path.abspath(Path(argument).expanduser()))
    if "/" not in argument and (not path.is_dir() or (paths.MODEL_STORE / f"{argument}.yaml").is_file()):
        return argument
    if path.parent == paths.MODEL_STORE and not path.is_dir():
        stem = path.name.removesuffix(".yaml")
        if (paths.MODEL_STORE / f"{stem}.yaml").is_file():
            return stem
    name = _OTHER.sub("-", path.name).strip(".-_")[:_LONGEST_NAME]
    if not name:
        raise SetupError(f"model: got {argument!r}, expected a folder with a name of letters and digits; rename it")
    document = paths.MODEL_STORE / f"{name}.yaml"
    if document.is_file():
        _check_same(document, path)
        return name
    with as_trouble():
        check_files(path, ModelSettings(name=name), _CURE)
        text = _text(path)
    with writing(paths.MODEL_STORE):
        paths.MODEL_STORE.mkdir(exist_ok=True)
        document.write_text(text, encoding="utf-8")
    say(f"wrote {shown(document)}, which names the model {name}:\n{textwrap.indent(text, '    ')}")
    return name


def _check_same(document: Path, folder: Path) -> None:
    """Refuses a folder whose name is taken by a YAML of other weights."""
    with as_trouble():
        known = locate(document).folder
    if known != folder and not (known.exists() and folder.exists() and known.samefile(folder)):
        raise SetupError(
            f"model: got the folder {folder}, whose name {document.stem} is that of {shown(document)} with its weights "
            f"in {known}; expected one model for a name; rename the folder, or write another YAML"
        )


def _text(folder: Path) -> str:
    config = read_json(folder / "config.json", _CURE)
    stated = str(config.get("dtype") or config.get("torch_dtype") or "")
    dtype = stated if stated in DTYPES else "float32"
    quoted = yaml.safe_dump(str(folder), allow_unicode=True, width=1 << 20).removesuffix("\n").removesuffix("\n...")
    remark = "" if dtype == "float32" else _HALVED
    return _WRITTEN.format(folder=" ".join(str(folder).split()), quoted=quoted, dtype=dtype, remark=remark)
