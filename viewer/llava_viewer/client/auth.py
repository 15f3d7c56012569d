"""Where a request's token comes from, decided anew for every request.

Flow: a string, a key file or the environment -> `read_token` -> "Bearer ..." for either transport.
"""

from __future__ import annotations

import os
from pathlib import Path

from llava_viewer.client.state_files import read_json
from llava_wire.errors import RequestError

ENVIRONMENT_NAME = "LLAVA_GAZE_TOKEN"
_MOST_KEY_CHARS = 8192
"""What servers take as a header."""

Token = str | Path | None
"""The key itself, the path of TorchServe's key_file.json, or None for the environment's LLAVA_GAZE_TOKEN."""


def read_token(token: Token) -> str | None:
    """The key to send now, or None when there is none.

    A key file is read every time: its keys expire, and a renewed key kills the old one at once.

    Raises:
        RequestError: "unauthorized" when the key file or the key is not usable.
    """
    if isinstance(token, Path):
        return _checked(_from_file(token), str(token))
    if token is None:
        token = os.environ.get(ENVIRONMENT_NAME, "")
    return _checked(token.strip(), "token") or None


def or_key_file(token: Token, key_file: Path) -> Token:
    """The token as given, else the environment's, else the key file of a server that was found on this machine."""
    return key_file if token is None and not os.environ.get(ENVIRONMENT_NAME, "").strip() else token


def bearer(token: Token) -> dict[str, str]:
    """The authorization header or metadata for a request sent now; empty without a token."""
    key = read_token(token)
    return {"authorization": f"Bearer {key}"} if key else {}


def _from_file(path: Path) -> str:
    try:
        key = read_json(path)["inference"]["key"]
    except (OSError, ValueError) as error:
        raise RequestError(
            "unauthorized",
            "key_file",
            f"got {path} ({error}), expected a server's readable key_file.json; start the server or name another file",
        ) from error
    except (KeyError, TypeError, IndexError) as error:
        raise RequestError(
            "unauthorized", "key_file", f"got {path} without inference.key, expected TorchServe's key_file.json"
        ) from error
    if not isinstance(key, str) or not key:
        raise RequestError(
            "unauthorized",
            "key_file",
            f"got {path} whose inference.key is no text, expected TorchServe's key_file.json",
        )
    return key


def _checked(key: str, source: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            "unauthorized",
            "token",
            f"got a key with odd characters from {source}, expected printable ASCII; copy it anew",
        )
    if len(key) > _MOST_KEY_CHARS:
        raise RequestError(
            "unauthorized", "token", f"got a key of {len(key)} characters from {source}, expected {_MOST_KEY_CHARS}"
        )
    return key
