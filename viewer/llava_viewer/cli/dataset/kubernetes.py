"""The command `kubernetes`: the manifest of an indexed job whose pods work on one run, printed for `kubectl apply`.

Flow: arguments of `run`, checked as `run` would -> YAML: a job of as many pods, each a worker with a name of its own.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
from pathlib import PurePosixPath

from llava_viewer.cli.console import UsageError
from llava_viewer.cli.dataset import tasks

EXAMPLES = """examples:
  llava-viewer kubernetes --tasks 8 --image registry/llava-gaze --volume data -- q.jsonl -o out --engine m > job.yaml
  kubectl apply -f job.yaml

Behind -- stand the arguments of `run`, as they are to be read in a pod: the volume, a PersistentVolumeClaim that all
pods can write to (ReadWriteMany), is their present folder. The image is that of conf/deploy/Containerfile. Each pod is
a worker of the same run: they share its parts by claims in OUT. A pod that is evicted, killed or out of memory is
started again, and has what it had begun; when parts are left in the end, delete the job and apply it again.
"""
_MANIFEST = """# A run of llava-gaze by {count} pods: kubectl apply -f THIS
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: llava-gaze}}
spec:
  completionMode: Indexed
  completions: {count}
  parallelism: {count}
  # Each pod may fail so often; evictions and drained nodes do not count.
  backoffLimitPerIndex: {failures}
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - {{type: DisruptionTarget, status: "True"}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: llava-gaze}}
    spec:
      restartPolicy: Never
      # A kill costs the parts that are being made, and nothing is to be tidied up.
      terminationGracePeriodSeconds: 5
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, runAsUser: {user}, runAsGroup: {user}, fsGroup: {user}}}
      containers:
        - name: worker
          image: {image}
          workingDir: {folder}
          command: {command}
          # A worker keeps its name when its pod is started again, wherever that is.
          args: {arguments}
          env:
            - name: WORKER
              valueFrom: {{fieldRef: {{fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}}}
            - {{name: HF_HUB_OFFLINE, value: "1"}}
            - {{name: HOME, value: /tmp}}
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
          resources:
            requests: {{cpu: {cpus}, memory: {memory}}}
            limits: {{memory: {memory}{gpus}}}
          volumeMounts:
            - {{name: data, mountPath: {folder}}}
            - {{name: tmp, mountPath: /tmp}}
      volumes:
        - {{name: data, persistentVolumeClaim: {{claimName: {volume}}}}}
        - {{name: tmp, emptyDir: {{}}}}
"""
_COMMAND = ("/opt/llava-gaze/.venv/bin/python", "-m", "llava_viewer.cli", "run")
"""In the image of conf/deploy/Containerfile."""
_USER, _FAILURES, _MOST_NAME_CHARS = 10001, 8, 52
"""The image's user; restarts of a pod; a pod's name, with its index and ending, has up to 63 characters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `kubernetes`."""
    parser.set_defaults(run=kubernetes)
    parser.add_argument("--image", required=True, metavar="NAME", help="the image of llava-gaze, where nodes find it")
    parser.add_argument("--volume", type=_name, required=True, metavar="CLAIM",
                        help="the PersistentVolumeClaim with the data, which OUT goes to")  # fmt: skip
    parser.add_argument("--mount", type=_folder, default=PurePosixPath("/data"), metavar="DIR",
                        help="where the pods have it (default: %(default)s)")  # fmt: skip
    parser.add_argument("--gpus", type=_gpus, default=1, metavar="N", help="of a pod; 0: none (default: %(default)s)")
    parser.add_argument("--cpus", type=_quantity, default="4", metavar="N", help="of a pod (default: %(default)s)")
    parser.add_argument("--memory", type=_quantity, default="16Gi", metavar="SIZE",
                        help="of a pod, and no more (default: %(default)s)")  # fmt: skip
    tasks.add_arguments(parser)


def kubernetes(arguments: argparse.Namespace) -> None:
    """Prints the manifest."""
    found = tasks.tasks_of(arguments, "kubernetes")
    out = PurePosixPath(posixpath.normpath(arguments.mount / found.asked.output))
    if arguments.mount not in out.parents:
        raise UsageError(
            f"kubernetes: got -o {found.asked.output}, expected a folder in {arguments.mount}, as all else ends with "
            "the pod; name it as from there"
        )
    name = re.sub(r"[^a-z0-9]+", "-", found.name(out).lower())[-_MOST_NAME_CHARS:].strip("-")
    print(
        _MANIFEST.format(
            name=name, count=found.count, failures=_FAILURES, user=_USER,
            image=_text(arguments.image), folder=_text(str(arguments.mount)), volume=_text(arguments.volume),
            command=_list(_COMMAND),
            # What stands in the arguments is no variable of the pod.
            arguments=_list([*(one.replace("$", "$$") for one in found.arguments), "--worker", f"{name}-$(WORKER)"]),
            cpus=_text(arguments.cpus), memory=_text(arguments.memory),
            gpus=f', nvidia.com/gpu: "{arguments.gpus}"' if arguments.gpus else "",
        ),
        end="",
    )  # fmt: skip


def _text(text: str) -> str:
    """A text as YAML has it, whatever it holds.

    Raises:
        UsageError: a name that is no UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"kubernetes: got {text!r:.80}, expected UTF-8; rename it") from None
    return re.sub(r"[^\x20-\x7e]", lambda one: f"\\U{ord(one[0]):08x}", json.dumps(text, ensure_ascii=False))


def _list(texts: list[str] | tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected a name of lower case letters, digits, . and -")
    return text


def _folder(text: str) -> PurePosixPath:
    path = PurePosixPath(posixpath.normpath(text))
    if not path.is_absolute() or path == PurePosixPath("/") or path.is_relative_to("/tmp"):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected a folder from / on that is neither / nor /tmp")
    return path


def _gpus(text: str) -> int:
    if not re.fullmatch(r"\d{1,2}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected 0 to 99 GPUs")
    return int(text)


def _quantity(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}(m|[kMGT]i?)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected a quantity such as 4, 500m or 16Gi")
    return text
