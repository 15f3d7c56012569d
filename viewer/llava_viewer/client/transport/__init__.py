"""One exchange with a server over HTTP or gRPC, bounded in time and bytes."""
