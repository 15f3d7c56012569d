"""Requests over HTTP: a multipart form to /predictions/<model>.

Flow: fields -> multipart POST -> status and body -> reply bytes, whole or as they come, or a typed error.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llava_viewer.client.address import LOOPBACK, checked_host
from llava_viewer.client.auth import Token, bearer
from llava_viewer.client.base import CONNECT_TIMEOUT_S
from llava_viewer.client.errors import ServerUnreachable, broken_off, from_http, missing_package, timed_out

JSON = "application/json"


class HttpTransport:
    """A pool of HTTP connections to one model.

    Args:
        url: the server's inference address, with nothing behind it or a path prefix of a proxy.
        model: the served model's name.
        token: see `llava_viewer.client.auth`.
        ca_file: PEM certificates to trust instead of the system's.
    """

    def __init__(self, url: str, model: str, token: Token, ca_file: Path | None) -> None:
        try:
            import httpx
        except ImportError as error:
            raise missing_package("httpx", "http") from error
        self._httpx: Any = httpx
        host = checked_host(url)
        self._address = url.rstrip("/")
        self._url = f"{self._address}/predictions/{quote(model, safe='')}"
        self._token = token
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        # A proxy named in the environment must not stand between this machine and itself.
        self._client = httpx.Client(verify=verify, trust_env=host not in LOOPBACK, follow_redirects=False)

    def send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float) -> bytes:
        """See `Transport.send`."""
        return b"".join(self._reply(fields, "application/octet-stream" if npz else JSON, timeout_s))

    def stream(self, fields: Mapping[str, bytes], *, timeout_s: float) -> Iterator[bytes]:
        """Sends the request's fields and yields the reply's bytes as they come.

        Args:
            fields, timeout_s: as for `send`; the time is that of the whole reply.

        Raises:
            RequestError: as `send`, also in the midst of a reply.
        """
        return self._reply(fields, JSON, timeout_s)

    def _reply(self, fields: Mapping[str, bytes], accept: str, timeout_s: float) -> Iterator[bytes]:
        """The reply's bytes as they come, with what a proxy compressed unpacked."""
        end = time.monotonic() + timeout_s
        with self._typed_errors(timeout_s):
            reply = self._client.send(self._request(fields, accept, timeout_s), stream=True)
            try:
                if reply.status_code != 200:
                    body = b"".join(_in_time(reply.iter_bytes(), end, timeout_s))
                    raise from_http(reply.status_code, body, sum(map(len, fields.values())))
                yield from _in_time(reply.iter_bytes(), end, timeout_s)
            finally:
                reply.close()

    def _request(self, fields: Mapping[str, bytes], accept: str, timeout_s: float) -> Any:
        # httpx sends a part without a file name as a form field, and neither needs a type that the server would parse.
        parts = {name: (None, value) for name, value in fields.items() if name != "image"}
        if "image" in fields:
            parts["image"] = ("image", fields["image"], "application/octet-stream")  # type: ignore[assignment]
        headers = {"accept": accept, **bearer(self._token)}
        timeout = self._httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        return self._client.build_request("POST", self._url, files=parts or None, headers=headers, timeout=timeout)

    @contextlib.contextmanager
    def _typed_errors(self, timeout_s: float) -> Iterator[None]:
        """httpx's exceptions as this project's."""
        httpx = self._httpx
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerUnreachable(self._address, str(error)) from error
        except httpx.TimeoutException as error:
            raise timed_out(timeout_s) from error
        except httpx.RemoteProtocolError as error:
            if "illegal" in str(error):  # what answers is no HTTP server: a gRPC port, say
                raise ServerUnreachable(self._address, f"no HTTP server: {error}") from error
            raise broken_off(str(error)) from error
        except httpx.HTTPError as error:
            raise broken_off(str(error)) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def _in_time(pieces: Iterator[bytes], end: float, timeout_s: float) -> Iterator[bytes]:
    """The pieces until `end`; httpx's own timeout is one for each of them."""
    for piece in pieces:
        if time.monotonic() > end:
            raise timed_out(timeout_s)
        yield piece
