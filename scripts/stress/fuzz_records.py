"""Gives crafted record files to every command of llava-viewer that reads one, each in a process of its own.

Flow: a sound record -> `fuzzing.records` -> files -> commands with a limit on their memory -> time, memory, exit code,
what they printed and what they left behind -> a table. Exit code 1 for a traceback, a command over the limits, one that
failed on a sound record, or a file outside of its output.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from llava_viewer.cli import main as command_line
from servekit.paths import ROOT
from stress.fuzzing.records import FAMILIES, Crafted, Maker

KEPT = ROOT / "tests" / "data" / "records"
SOUND = (KEPT / "v2" / "attention.npz", KEPT / "v1" / "sqrt-u8-four-reductions.npz")
"""What the files are made from, by turns of all families."""
KINDS = ("toolkit", "png", "svg", "sheet", "sheet-svg", "gif", "apng", "csv", "npz")
COMMANDS: dict[str, list[str]] = {
    "render": ["render", "{record}", "-o", "{out}/run.html"],
    "inspect": ["inspect", "{record}"],
    "inspect --json": ["inspect", "{record}", "--json"],
    "compare": ["compare", "{record}", "{record}", "-o", "{out}/compare.html"],
    "index": ["index", "{folder}"],
    **{f"export {kind}": ["export", "{record}", "-o", "{out}", "--as", kind] for kind in KINDS},
}
"""Every command that reads records and asks no server."""


@dataclass(frozen=True)
class Outcome:
    """What one command did with one file."""

    record: str
    command: str
    code: int
    seconds: float
    cpu_s: float
    memory_mb: int
    faults: tuple[str, ...]


def run_one(crafted: Crafted, command: str, most_s: float, most_mb: int) -> Outcome:
    """Runs a command on a file in an empty folder, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="lgaze-records-") as name:
        folder = Path(name)
        (folder / "in").mkdir()
        (folder / "out").mkdir()
        (folder / "in" / "record.npz").write_bytes(crafted.data)
        places = {"record": folder / "in" / "record.npz", "out": folder / "out", "folder": folder / "in"}
        line = [part.format(**places) for part in COMMANDS[command]]
        started = time.monotonic()
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                _child(line, folder, said.fileno(), most_s, most_mb)
            _, status, used = os.wait4(pid, 0)
            seconds = time.monotonic() - started
            said.seek(0)
            words = said.read()
        code = os.waitstatus_to_exitcode(status)
        cpu_s, memory_mb = used.ru_utime + used.ru_stime, used.ru_maxrss >> 10
        faults = _faults(crafted, code, words)
        if cpu_s > most_s:
            faults.append(f"took {cpu_s:.1f} s")
        if memory_mb > most_mb:
            faults.append(f"took {memory_mb} MB")
        allowed = {"in/record.npz"} | ({"in/index.html", "in/index.cache.json"} if command == "index" else set())
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        strange = sorted(path for path in left - allowed if not path.startswith("out/"))
        if strange:
            faults.append(f"wrote {strange[:3]}")
        return Outcome(crafted.name, command, code, round(seconds, 2), round(cpu_s, 2), memory_mb, tuple(faults))


def _child(line: list[str], folder: Path, said: int, most_s: float, most_mb: int) -> NoReturn:
    """The command in a forked process, which has imported everything already; limits are a guard above the allowed."""
    code = 70
    try:
        os.chdir(folder)
        os.dup2(said, 1)
        os.dup2(said, 2)
        for kind, most in ((resource.RLIMIT_AS, 4 * most_mb << 20), (resource.RLIMIT_CPU, int(6 * most_s))):
            resource.setrlimit(kind, (most, most))
        code = command_line(line)
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _faults(crafted: Crafted, code: int, words: bytes) -> list[str]:
    faults = []
    if b"Traceback (most recent call last)" in words:
        faults.append("a traceback")
    if code not in (0, 1):
        faults.append(f"exit code {code}")
    if code == 1 and b"error: " not in words:
        faults.append("failed without a word")
    if b"LLAVA_GAZE_TRACEBACK" in words:
        faults.append("an unforeseen error: " + words.decode("utf-8", "replace").strip().splitlines()[-1][:200])
    if crafted.families == ("sound",) and code != 0:
        faults.append("a sound record was refused")
    steering = [char for char in words.decode("utf-8", "replace") if char in "\x1b\x07\x9b\u202e\u2066\u2028\x00"]
    if steering:
        faults.append(f"printed U+{ord(steering[0]):04X}")
    return faults


def main() -> int:
    """The command line."""
    options = argparse.ArgumentParser(
        description="Give crafted record files to every command of llava-viewer and measure what they take.",
        epilog="example:\n  python -m stress.fuzz_records --records 300 --out out/fuzz-records.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--records", type=int, default=300, help="files (default: %(default)d)")
    options.add_argument("--first", type=int, default=0, help="number of the first (default: %(default)d)")
    options.add_argument("--seed", type=int, default=1, help="of the files (default: %(default)d)")
    options.add_argument("--commands", nargs="*", default=list(COMMANDS), help="some of the commands only")
    options.add_argument("--seconds", type=float, default=10, help="CPU time allowed (default: %(default)g)")
    options.add_argument("--megabytes", type=int, default=1000, help="memory allowed (default: %(default)d)")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files here and run nothing")
    options.add_argument("--out", type=Path, help="where the figures go as JSON")
    arguments = options.parse_args()
    makers = [Maker(arguments.seed, sound.read_bytes()) for sound in SOUND]
    numbers = range(arguments.first, arguments.first + arguments.records)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            crafted = makers[number // len(FAMILIES) % len(makers)].file(number)
            (arguments.keep / crafted.name).write_bytes(crafted.data)
        return 0

    outcomes: list[Outcome] = []
    for done, number in enumerate(numbers, start=1):
        crafted = makers[number // len(FAMILIES) % len(makers)].file(number)
        for name in arguments.commands:
            found = run_one(crafted, name, arguments.seconds, arguments.megabytes)
            outcomes.append(found)
            if found.faults:
                print(f"{found.record}, {found.command}: {'; '.join(found.faults)}", file=sys.stderr, flush=True)
        if done % 25 == 0:
            print(f"{done} of {len(numbers)}", file=sys.stderr, flush=True)
    return report(outcomes, arguments.seed, arguments.out)


def report(outcomes: list[Outcome], seed: int, out: Path | None) -> int:
    """Prints the table, keeps the figures, and gives the exit code."""
    by_command: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_command[outcome.command].append(outcome)
    width = shutil.get_terminal_size((100, 20)).columns
    print("command             shown  refused  longest CPU s  most MB"[:width])
    for name, found in by_command.items():
        codes = Counter(one.code for one in found)
        longest, most = max(one.cpu_s for one in found), max(one.memory_mb for one in found)
        print(f"{name:<18}{codes[0]:>7}{codes[1]:>9}{longest:>15.2f}{most:>9}"[:width])
    faulty = [one for one in outcomes if one.faults]
    print(f"{len(outcomes)} runs, seed {seed}: {len(faulty)} faults")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"seed": seed, "runs": [asdict(one) for one in outcomes]}, indent=1), "utf-8")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
