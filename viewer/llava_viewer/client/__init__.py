"""Asks a server over HTTP or gRPC: one call, `Client.predict`, gives a `Record` either way.

Flow: picture + question + options -> transport -> reply bytes -> typed error or `Record`, with the picture added.
"""

from llava_viewer.client.base import Client
from llava_viewer.client.errors import ServerUnreachable
from llava_viewer.client.transport.stream import StreamedToken
from llava_wire.errors import RecordError, RequestError

__all__ = ["Client", "RecordError", "RequestError", "ServerUnreachable", "StreamedToken"]
