"""The Open Inference Protocol (V2) over gRPC. It needs the packages of the extra `grpc`."""
