"""Tests that send signals work in the background and under nohup too, where a shell has them ignored."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from support.signals import usual_signals

SEEN = "import signal, sys; print(signal.getsignal(int(sys.argv[1])) == signal.SIG_IGN)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_program_does_not_inherit_what_the_tests_ignore(number: signal.Signals) -> None:
    def ignored() -> str:
        command = [sys.executable, "-c", SEEN, str(int(number))]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert ignored() == "True"
        with usual_signals():
            assert ignored() == "False"
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
