"""The device lists that TorchServe's Java side can read, and the GPU that a model demands.

Flow: CUDA_VISIBLE_DEVICES as the user wrote it -> plain numbers for Java, the original for the worker.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from servekit.paths import SetupError

ORIGINAL = "LLAVA_GAZE_CUDA_VISIBLE_DEVICES"
"""Carries the user's own value to the worker; `llava_handler` puts it back before torch looks."""


def sanitised(env: Mapping[str, str]) -> dict[str, str]:
    """The environment with a CUDA_VISIBLE_DEVICES that Java parses.

    The Java side wants numbers without blanks and only counts them; `GPU-...` and `MIG-...` ids, or "0, 1", stop the
    server from starting. It gets 0..n-1 and the worker gets the original back.
    """
    clean = dict(env)
    clean.pop(ORIGINAL, None)
    value = clean.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return clean
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if not entries or entries[0] == "-1":
        clean["CUDA_VISIBLE_DEVICES"] = ""
    elif all(re.fullmatch(r"\d+", entry) for entry in entries):
        clean["CUDA_VISIBLE_DEVICES"] = ",".join(entries)
    else:
        clean[ORIGINAL] = ",".join(entries)
        clean["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in range(len(entries)))
    return clean


def gpu_count(env: Mapping[str, str]) -> int:
    """How many GPUs a worker would see."""
    value = env.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi", path=env.get("PATH", ""))
    if program is None:
        return 0
    if value is not None:
        return len([entry for entry in value.split(",") if entry.strip() not in ("", "-1")])
    answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=False)
    return len(re.findall(r"^GPU ", answer.stdout, re.MULTILINE)) if answer.returncode == 0 else 0


def require_device(model: str, section: Mapping[str, Any], content: Mapping[str, Any], env: Mapping[str, str]) -> None:
    """A GPU must be there when the model's YAML names one; ids in `deviceIds` must exist; "map" takes one worker."""
    device = str(section.get("device", "auto"))
    if device == "map" and content.get("maxWorkers", 1) != 1:
        raise SetupError(
            f"maxWorkers of {model}: got {content['maxWorkers']!r} with `device: map`, expected 1: each worker would "
            "take every GPU; set maxWorkers: 1, or `device: auto` for one GPU each"
        )
    ids = content.get("deviceIds")
    wanted = device.startswith("cuda") or device == "map" or bool(ids)
    if not wanted:
        return
    count = gpu_count(env)
    if count == 0:
        raise SetupError(
            f"device of {model}: got {device!r} and no GPU here, expected a CUDA device; "
            "set `device: auto` (or cpu) in the model's YAML, or check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    if ids is not None and (not isinstance(ids, list) or any(type(i) is not int or not 0 <= i < count for i in ids)):
        raise SetupError(
            f"deviceIds of {model}: got {ids!r}, expected a list of numbers from 0 to {count - 1}; mend the "
            "model's YAML"
        )
