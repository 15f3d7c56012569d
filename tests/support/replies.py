"""Small real servers that answer with what a test puts in: one over HTTP, one over gRPC, spoken to in the same way.

Flow: `Reply` -> `HttpServer` or `GrpcServer` on a free port -> `seen`, the requests that arrived.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socket
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from llava_viewer.client.transport.messages import PREDICTIONS, messages


@dataclass
class Reply:
    """What to answer.

    Args:
        body: the reply's body, over gRPC the prediction.
        status: the HTTP status.
        code, details: the gRPC status, OK without a code.
        lost_bytes: how many bytes of the body are announced over HTTP and never sent; -1 drops the connection at once.
        delay_s: wait before answering.
        drip_s: wait after each byte of the body, over HTTP.
        encoding: how the body is compressed already, for HTTP's header.
        retry_after: HTTP's header of that name, over gRPC the trailing metadata.
    """

    body: bytes = b""
    status: int = 200
    code: grpc.StatusCode | None = None
    details: str = ""
    lost_bytes: int = 0
    delay_s: float = 0.0
    drip_s: float = 0.0
    encoding: str = ""
    retry_after: str = ""


@dataclass(frozen=True)
class Seen:
    """A request that arrived: model, fields and headers (names in lower case)."""

    model: str
    fields: dict[str, bytes]
    headers: dict[str, str]

    @property
    def options(self) -> dict[str, Any]:
        """The options as the server reads them."""
        return dict(json.loads(self.fields["options"]))


@dataclass
class _Server:
    reply: Reply = field(default_factory=Reply)
    first: list[Reply] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    address: str = ""

    def next_reply(self) -> Reply:
        """What to answer now: `first` one after another, then always `reply`."""
        return self.first.pop(0) if self.first else self.reply


class HttpServer(_Server):
    """Answers every POST with `reply`; `address` is a URL."""

    def __enter__(self) -> HttpServer:
        outer = self
        self._connections: list[socket.socket] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                model = self.path.removeprefix("/predictions/")
                outer.seen.append(
                    Seen(
                        model,
                        form_fields(headers.get("x-llava-gaze-form") or headers.get("content-type", ""), body),
                        headers,
                    )
                )
                reply = outer.next_reply()
                time.sleep(reply.delay_s)
                if reply.lost_bytes < 0:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(reply.body) + reply.lost_bytes))
                if reply.encoding:
                    self.send_header("Content-Encoding", reply.encoding)
                if reply.retry_after:
                    self.send_header("Retry-After", reply.retry_after)
                self.end_headers()
                for n in range(len(reply.body)) if reply.drip_s else ():
                    self.wfile.write(reply.body[n : n + 1])
                    time.sleep(reply.drip_s)
                self.wfile.write(b"" if reply.drip_s else reply.body)
                self.close_connection = reply.lost_bytes > 0

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hung up first is part of the tests."""

            def process_request(self, request: Any, address: Any) -> None:
                outer._connections.append(request)
                super().process_request(request, address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class GrpcServer(_Server):
    """Answers every call of Predictions with `reply`; `address` is HOST:PORT."""

    def __enter__(self) -> GrpcServer:
        request_class, response_class = messages()

        def predict(request: Any, context: grpc.ServicerContext) -> Any:
            headers = {item.key: item.value for item in context.invocation_metadata()}
            self.seen.append(Seen(request.model_name, dict(request.input), headers))
            reply = self.next_reply()
            time.sleep(reply.delay_s)
            if reply.retry_after:
                context.set_trailing_metadata((("retry-after", reply.retry_after),))
            if reply.code is not None:
                context.abort(reply.code, reply.details)
            return response_class(prediction=reply.body)

        service, _, method = PREDICTIONS.strip("/").partition("/")
        handler = grpc.unary_unary_rpc_method_handler(
            predict, request_class.FromString, response_class.SerializeToString
        )
        self._server = grpc.server(
            futures.ThreadPoolExecutor(2),
            handlers=[grpc.method_handlers_generic_handler(service, {method: handler})],
            options=[("grpc.max_receive_message_length", 8 << 20)],
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a multipart form by name."""
    if not content_type.startswith("multipart/form-data"):
        return {}
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    fields = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        payload = part.get_payload(decode=True)
        # Images have one name in a form and a name each in a gRPC map, which is what tests look at.
        name = f"image_{len([one for one in fields if one.startswith('image')]) + 1}" if name in fields else name
        fields[name] = payload if isinstance(payload, bytes) else b""
    return fields
