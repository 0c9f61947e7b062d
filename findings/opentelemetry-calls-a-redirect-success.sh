#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-http 1.45.2: an answer that took nothing is a success, and nothing is logged.
#
# The exporter takes every status from 200 to 399 for success, follows no redirect, and reads no body. So behind a proxy that answers
# http with "308, see https", or asks an operator to sign in by 302, every span of a process is lost for ever, and it says SUCCESS. The
# specification of OTLP has one more answer of that sort: status 200 with a `partial_success` that counts what was refused and says
# why, about which a client should tell; it is not looked at either.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   308: SUCCESS, asked: POST once; 302: SUCCESS, asked: POST once; 200 that refuses 1 of 1: SUCCESS; lines logged: 0
# What follows here: the exporter gets a session of ours, in which a redirect is an error that names where to, and what a collector
# refused is logged (`spans_refused`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-sdk==1.45.2 >&2
HOME=$folder "$folder/venv/bin/python" - <<'PY'
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

asked: list[str] = []
REFUSED = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="over quota"))


class Collector(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        asked.append(self.command)
        status = int(self.path.split("/")[1])
        body = REFUSED.SerializeToString() if status == 200 else b""
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Lines(logging.Handler):
    """Counts what the package logs."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        Lines.count += record.name.startswith("opentelemetry")


logging.basicConfig(level=logging.WARNING, handlers=[Lines()])
kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
with provider.get_tracer("finding").start_as_current_span("work"):
    pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
told = []
for status in (308, 302, 200):
    asked.clear()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_address[1]}/{status}/v1/traces")
    told.append((status, exporter.export(kept.get_finished_spans()).name, list(asked)))
print(*(f"{status}: {result}, asked: {calls}" for status, result, calls in told), f"lines logged: {Lines.count}", sep="; ")
assert told == [(status, "SUCCESS", ["POST"]) for status in (308, 302, 200)], told
assert Lines.count == 0, Lines.count
PY
