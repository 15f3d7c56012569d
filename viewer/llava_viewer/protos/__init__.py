"""TorchServe's gRPC description (Apache-2.0), as text and compiled; `make protos` renews both."""
