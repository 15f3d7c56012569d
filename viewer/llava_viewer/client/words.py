"""What servers say for a refusal, and what it means: TorchServe's own words, and statuses by number and by name.

Flow: `errors` looks a reply up here. The table in docs/http-api.md and docs/grpc.md is this file in prose.
"""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN_MODEL = "got an unknown model, expected a served one; check its name"


class Rule(NamedTuple):
    """TorchServe's own words for a refusal, the same over both transports, and what they mean."""

    words: str
    code: str
    field: str
    message: str


RULES = (
    Rule(
        "Token Authorization failed",
        "unauthorized",
        "token",
        "got a missing, wrong or expired key, expected the server's current one; on its own machine name none "
        "and unset LLAVA_GAZE_TOKEN, elsewhere name its key_file.json, or put the key in LLAVA_GAZE_TOKEN",
    ),
    Rule("Model not found", "not_found", "model", UNKNOWN_MODEL),
    Rule("Model version", "not_found", "model", "got an unknown version, expected a served one; leave it out"),
    Rule("Parameter model_name is required", "not_found", "model", "got no model name, expected a served one; name it"),
    Rule(
        "has no worker to serve",
        "overloaded",
        "server",
        "got a full queue or no worker, expected fewer requests at a time; wait and send it again",
    ),
    Rule(
        "Concurrent RPC limit exceeded",
        "overloaded",
        "server",
        "got too many calls at once, expected fewer at a time; wait and send it again",
    ),
    Rule(
        "Worker died",
        "worker_died",
        "server",
        "got a worker that died over the request, expected one that answers; it restarts by itself, "
        "see the server's log before sending it again",
    ),
    Rule(
        "Out of resources",
        "does_not_fit",
        "server",
        "got out of memory on the server, expected what fits; name fewer layers, heads or steps, or wait",
    ),
    Rule("Prediction failed", "internal", "server", "internal error; see the server log"),
    Rule(
        "ErrorDataDecoderException",
        "bad_request",
        "body",
        "got a malformed form, expected multipart/form-data; mend it",
    ),
    Rule(
        "only accepts HTTPS requests",
        "bad_request",
        "url",
        "got http://, expected https:// at this server; change the url",
    ),
    Rule("Requested resource is not found", "not_found", "url", "got an unknown path, expected the server's root"),
)

HTTP_CODES = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "deadline",
    413: "too_large",
    415: "unsupported_media",
    422: "invalid",
    429: "overloaded",
    500: "internal",
    504: "deadline",
    507: "does_not_fit",
}
GRPC_CODES = {
    "PERMISSION_DENIED": "unauthorized",
    "UNAUTHENTICATED": "unauthorized",
    "NOT_FOUND": "not_found",
    "UNIMPLEMENTED": "not_found",
    "INVALID_ARGUMENT": "bad_request",
    "FAILED_PRECONDITION": "invalid",
    "RESOURCE_EXHAUSTED": "too_large",
    "DEADLINE_EXCEEDED": "deadline",
    "INTERNAL": "internal",
}
NO_CONNECTION = (
    "failed to connect",
    "errors resolving",
    "Connection refused",
    "name resolution",
    "DNS resolution",
    "Failed parsing HTTP/2",
)
