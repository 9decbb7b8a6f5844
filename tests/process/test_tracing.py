"""Traces reach a collector."""

import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.pictures import encoded, noise
from tests.servers import serving


@contextmanager
def collector():
    """A trace collector; gives its URL and the list of spans that it is sent."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def test_a_request_is_a_trace_where_a_collector_is_named(entry_of, unused_port):
    """Its stages are spans under it, and it is a child of the caller's span."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with collector() as (endpoint, spans):
        entry = entry_of(models.batch_norm_dropout)
        with serving(entry, unused_port, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (process, url):
            wait_until_ready(url, process)
            caller = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
            assert httpx.post(f"{url}/explain", content=encoded(noise()), headers=caller).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
    traced = {span.name: span for span in spans if span.trace_id.hex() == trace_id}
    assert traced.keys() == {"POST /explain", "decode", "queue", "inference", "render"}
    root = traced.pop("POST /explain")
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    for span in traced.values():
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
