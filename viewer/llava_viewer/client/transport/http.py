"""Requests over HTTP: a multipart form to /predictions/<model>.

Flow: fields -> multipart POST -> status and body -> reply bytes, whole or as they come, or a typed error. httpcore
speaks the protocol and keeps the connections; `exchange` bounds them. Redirects are not followed: they could carry the
key to another host.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from llava_viewer.client.address import LOOPBACK, checked_host, shown
from llava_viewer.client.auth import Token, bearer
from llava_viewer.client.errors import ServerUnreachable, broken_off, from_http, missing_package, timed_out
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES
from llava_viewer.client.transport.exchange import Backend, Exchange
from llava_viewer.client.transport.form import form, unpacked
from llava_wire.errors import RequestError

JSON = "application/json"
_REFUSAL_BYTES = 64 << 10
"""Of a refusal's body; what is beyond says nothing more."""
_MOST_CONNECTIONS, _MOST_IDLE, _IDLE_S = 100, 20, 5.0
_PORTS = {"http": 80, "https": 443}


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
            import httpcore2
        except ImportError as error:
            raise missing_package("httpcore2", "http") from error
        self._core: Any = httpcore2
        host = checked_host(url)
        self._address, self._token = url.rstrip("/"), token
        parts = urlsplit(self._address)
        target = f"{quote(parts.path, safe='/%:@!$&()*+,;=~-._')}/predictions/{quote(model, safe='')}"
        self._url = _url(httpcore2, self._address, target)
        self._basic = _basic(parts.username, parts.password)
        port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
        name = self._url.host.decode("ascii")
        self._host = f"[{name}]{port}" if ":" in name else f"{name}{port}"
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_trust(httpcore2, ca_file) if parts.scheme == "https" or ca_file else None,
            # A proxy named in the environment must not stand between this machine and itself.
            proxy=None if host in LOOPBACK else _proxy(httpcore2, parts.scheme, host),
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_IDLE,
            keepalive_expiry=_IDLE_S,
            network_backend=Backend(httpcore2),
        )

    def send(
        self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> bytes:
        """See `Transport.send`."""
        return b"".join(self._reply(fields, "application/octet-stream" if npz else JSON, timeout_s, most_bytes))

    def stream(
        self, fields: Mapping[str, bytes], *, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> Iterator[bytes]:
        """Sends the request's fields and yields the reply's bytes as they come.

        Args:
            fields, most_bytes: as for `send`.
            timeout_s: as for `send`, of the whole reply; what the caller does between two pieces counts too.

        Raises:
            RequestError: as `send`, also in the midst of a reply.
        """
        return self._reply(fields, JSON, timeout_s, most_bytes)

    def _reply(self, fields: Mapping[str, bytes], accept: str, timeout_s: float, most_bytes: int) -> Iterator[bytes]:
        """The reply's bytes as they come, with what a proxy compressed unpacked."""
        exchange = Exchange(timeout_s, most_bytes)
        with self._typed_errors(timeout_s):
            with exchange.going_on():
                reply = self._pool.handle_request(self._request(fields, accept, timeout_s))
            try:
                headers = _headers(reply.headers)
                body = unpacked(exchange.each(reply.iter_stream()), headers.get("content-encoding", ""), most_bytes)
                if reply.status != 200:
                    raise from_http(
                        reply.status, _beginning(body), sum(map(len, fields.values())),
                        retry_after=headers.get("retry-after", ""), location=headers.get("location", ""),
                    )  # fmt: skip
                yield from body
            finally:
                reply.close()

    def _request(self, fields: Mapping[str, bytes], accept: str, timeout_s: float) -> Any:
        kind, body = form(fields) if fields else ("", b"")
        headers = {
            "host": self._host, "accept": accept, "accept-encoding": "gzip", "user-agent": "llava-gaze",
            "content-length": str(len(body)), **({"content-type": kind} if kind else {}),
            **bearer(self._token), **self._basic,
        }  # fmt: skip
        # The pool's own wait; connections get what is left of the exchange's time.
        timeouts = {"timeout": {"pool": timeout_s}}
        return self._core.Request("POST", self._url, headers=headers, content=body, extensions=timeouts)

    @contextlib.contextmanager
    def _typed_errors(self, timeout_s: float) -> Iterator[None]:
        """httpcore's exceptions as this project's."""
        core = self._core
        try:
            yield
        except RequestError:
            raise
        except (core.ConnectError, core.ConnectTimeout, OSError) as error:
            raise ServerUnreachable(self._address, str(error)) from error
        except core.TimeoutException as error:
            raise timed_out(timeout_s) from error
        except core.RemoteProtocolError as error:
            if "illegal" in str(error):  # what answers is no HTTP server: a gRPC port, say
                raise ServerUnreachable(self._address, f"no HTTP server: {error}") from error
            raise broken_off(str(error)) from error
        except (core.ProtocolError, core.NetworkError, core.ProxyError) as error:
            raise broken_off(str(error)) from error

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()


def _url(core: Any, address: str, target: str) -> Any:
    """An address without the name and password that it may carry, as httpcore takes it."""
    parts = urlsplit(address)
    try:
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna")
    except UnicodeError as error:
        raise ValueError(f"url: got {shown(address)!r}, expected a host with a name; name the address anew") from error
    return core.URL(scheme=parts.scheme, host=host, port=parts.port, target=target)


def _trust(core: Any, ca_file: Path | None) -> ssl.SSLContext:
    """What certificates are held against, read once; httpcore would read the system's for every connection."""
    context: ssl.SSLContext = ssl.create_default_context(cafile=str(ca_file)) if ca_file else core.default_ssl_context()
    return context


def _proxy(core: Any, scheme: str, host: str) -> Any:
    """The proxy that the environment names for addresses of that kind, or None."""
    proxies = urllib.request.getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or urllib.request.proxy_bypass(host):
        return None
    address = named if "://" in named else f"http://{named}"
    try:
        parts = urlsplit(address)
        auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        context = _trust(core, None) if parts.scheme == "https" else None
        return core.Proxy(_url(core, address, ""), auth=auth, ssl_context=context)
    except ValueError as error:
        raise ValueError(f"proxy: got {shown(named)!r}, expected http://HOST:PORT; mend the environment") from error


def _basic(name: str | None, password: str | None) -> dict[str, str]:
    """The header for a name and password that stand in the address; it takes the place of a key."""
    if not name and not password:
        return {}
    pair = f"{unquote(name or '')}:{unquote(password or '')}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """A reply's headers by name in lower case; of two with one name the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _beginning(body: Iterator[bytes]) -> bytes:
    """The beginning of a refusal's body."""
    data = bytearray()
    for piece in body:
        data += piece
        if len(data) >= _REFUSAL_BYTES:
            break
    return bytes(data[:_REFUSAL_BYTES])
