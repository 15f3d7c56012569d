"""Tells a service manager how far a server is, by systemd's protocol: one datagram to the socket that it names.

Source: sd_notify(3), https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import contextlib
import os
import socket

READY, STOPPING = "READY=1\nSTATUS=ready", "STOPPING=1"


def notify(words: str) -> None:
    """Sends a state such as "READY=1"; where no service manager asked for it (`NOTIFY_SOCKET`) nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        # "@": a name without a file, which the kernel knows by a leading zero byte.
        speaker.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        speaker.send(words.encode())
