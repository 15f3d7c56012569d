"""TorchServe's gRPC messages, built at run time from the compiled description in `llava_viewer.protos`.

Flow: inference.binpb -> a private descriptor pool -> message classes. Generated modules load on one or two major
versions of protobuf only; a description loads on all of them, and the private pool keeps clear of other copies.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, NamedTuple

PACKAGE = "org.pytorch.serve.grpc.inference"
PREDICTIONS = f"/{PACKAGE}.InferenceAPIsService/Predictions"


class Messages(NamedTuple):
    """The message classes of one call of Predictions."""

    PredictionsRequest: Any
    PredictionResponse: Any


@cache
def messages() -> Messages:
    """The message classes; raises ImportError without protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    data = resources.files("llava_viewer.protos").joinpath("inference.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return Messages(
        *(message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{n}")) for n in Messages._fields)
    )
