"""Traces: spans at a real receiver of OTLP, under the caller's trace, without anything secret, and at nobody's cost."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.config.settings import TraceSettings
from tests.app import running_app
from tests.cli.tiny_server import Received, Reply, TinyServer

messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SHOWN = {"http.request.method", "http.route", "http.response.status_code", "aitbc.request_id"}


class Collector(TinyServer):
    """A collector that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.received: list[Received] = []
        Thread(target=self.serve, daemon=True).start()

    def _answer(self, asked: Received) -> Reply:
        self.received.append(asked)
        return Reply(body=messages.ExportTraceServiceResponse().SerializeToString())

    @property
    def spans(self) -> list[Any]:
        """Every span so far."""
        found = []
        for asked in list(self.received):
            for of in messages.ExportTraceServiceRequest.FromString(asked.body).resource_spans:
                found += [span for scope in of.scope_spans for span in scope.spans]
        return found


async def test_a_collector_gets_a_span_of_each_request_under_its_trace_and_no_secret(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    collector = Collector()
    traces = TraceSettings(endpoint=f"{collector.url}/v1/traces", authorization=Secret("Bearer for-the-collector"))
    async with running_app(new_database(), tmp_path, traces=traces) as app:
        admin = await app.admin()
        parent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "Cookie": "hush", "Authorization": f"Bearer {admin.secret}"}
        asked = await app.client().get("/api/v1/identity/keys/self?hush=hush", headers=parent)
        assert asked.status_code == 422  # there is no such parameter
        named = await app.client().get("/nothing/hush", headers={"X-Request-ID": "order-17"})
        assert named.status_code == 404
        async with asyncio.timeout(60):
            while len(collector.spans) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    from aitbc.server.runtime.otlp import trace_id_of

    spans = {span.name: span for span in collector.spans}
    own, lost = spans["GET /api/v1/identity/keys/self"], spans["GET unmatched"]
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, SPAN)
    assert (lost.trace_id.hex(), lost.parent_span_id) == (f"{trace_id_of('order-17'):032x}", b"")
    for span in (own, lost):
        told = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
        assert set(told) == SHOWN and 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert told["aitbc.request_id"] == (TRACE if span is own else "order-17")
        assert told["http.response.status_code"] == (422 if span is own else 404)
    assert collector.received[0].path == "/v1/traces"
    sent = b"".join(one.body for one in collector.received)
    for secret in (admin.secret, "hush", "for-the-collector"):
        assert secret.encode() not in sent


async def test_a_collector_that_answers_nothing_delays_neither_requests_nor_the_end(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traces = TraceSettings(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        async with asyncio.timeout(60):
            async with running_app(new_database(), tmp_path, traces=traces) as app:
                asked = await asyncio.to_thread(_accepted_after, silent, app, asyncio.get_running_loop())
                assert asked
                for _ in range(20):
                    assert (await app.client().get("/healthz")).status_code == 200


def _accepted_after(silent: socket.socket, app: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the exporter connects once a request was answered."""
    done = Event()
    asyncio.run_coroutine_threadsafe(app.client().get("/healthz"), loop).add_done_callback(lambda _: done.set())
    silent.settimeout(30)
    connection, _ = silent.accept()
    connection.setblocking(False)
    return done.wait(30)
