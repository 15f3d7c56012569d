"""Prints the key that requests to a running server need; renews it first when it has expired.

Flow: server.json -> key file, read afresh -> the key on stdout.
"""

from __future__ import annotations

from servekit.cli import parser, run
from servekit.server import DEFAULT_NAME
from servekit.state import current_token, require_running


def main() -> int:
    """The command line."""
    arguments = parser(
        "Print the current key of a running server.",
        'curl -H "Authorization: Bearer $(python scripts/make_token.py)" http://127.0.0.1:8080/ping',
    )
    arguments.add_argument("--name", default=DEFAULT_NAME, help="the server's name (default: %(default)s)")
    arguments.add_argument(
        "--kind", choices=("inference", "management"), default="inference", help="which key (default: %(default)s)"
    )
    given = arguments.parse_args()
    print(current_token(require_running(given.name), given.kind))
    return 0


if __name__ == "__main__":
    run(main)
