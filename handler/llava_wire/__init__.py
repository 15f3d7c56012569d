"""What server and clients agree on: records, geometry, errors. Standard library and numpy only.

Flow: numpy arrays + plain facts -> `Record` -> bytes -> `Record` again. docs/wire-format.md is the normative text.
"""

from llava_wire.container import decode
from llava_wire.errors import RecordError, RequestError
from llava_wire.geometry import Geometry
from llava_wire.record import Record
from llava_wire.view import View
from llava_wire.writing import encode

__all__ = ["Geometry", "Record", "RecordError", "RequestError", "View", "decode", "encode"]
