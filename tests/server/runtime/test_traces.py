"""Traces: spans at a real receiver of OTLP, under the caller's trace, without anything secret, and at nobody's cost."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import structlog

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.secret import Secret
from aitbc.kernel.primitives.trace_context import span_id_of, trace_id_of
from aitbc.kernel.telemetry.spans import Span
from aitbc.server.config.settings import TraceSettings
from tests.app import running_app
from tests.cli.tiny_server import Received, Reply, TinyServer
from tests.journeys.hand_miner import HandMiner

messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SHOWN = {"http.request.method", "http.route", "http.response.status_code", "aitbc.request_id"}


class Collector(TinyServer):
    """A collector that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.received: list[Received] = []
        self.reply = Reply(body=messages.ExportTraceServiceResponse().SerializeToString())
        Thread(target=self.serve, daemon=True).start()

    def _answer(self, asked: Received) -> Reply:
        self.received.append(asked)
        return self.reply

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
    spans = {span.name: span for span in collector.spans}
    own, lost = spans["GET /api/v1/identity/keys/self"], spans["GET unmatched"]
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, SPAN)
    assert (lost.trace_id.hex(), lost.parent_span_id) == (trace_id_of("order-17"), b"")
    for span in (own, lost):
        told = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
        assert set(told) == SHOWN and 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert told["aitbc.request_id"] == (TRACE if span is own else "order-17")
        assert told["http.response.status_code"] == (422 if span is own else 404)
    assert collector.received[0].path == "/v1/traces"
    sent = b"".join(one.body for one in collector.received)
    for secret in (admin.secret, "hush", "for-the-collector"):
        assert secret.encode() not in sent


async def test_one_trace_has_the_submission_the_queue_the_attempts_and_the_payment(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    collector = Collector()
    traces = TraceSettings(endpoint=f"{collector.url}/v1/traces")
    wanted = {"POST /api/v1/ai/jobs", "job submit", "job queue", "job attempt", "ledger settle"}
    async with running_app(new_database(), tmp_path, traces=traces) as app:
        buyer = await app.who("buyer", funds="1")
        miner = await HandMiner.enrol(app, await app.who("seller"))
        await miner.beat()
        body = {"kind": "embed", "input": {"texts": ["hush"]}, "max_price": "0.05"}
        parent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "Idempotency-Key": "traced-1"}
        job = (await buyer.client.post("/api/v1/ai/jobs", json=body, headers=parent)).json()["id"]
        (first,) = await miner.poll(wait=30)
        failure = {"token": first["token"], "fault": "platform", "reason": "broken", "message": "hush"}
        failed = await miner.client.post(f"/api/v1/gpu/leases/{first['attempt']}/failure", json=failure)
        assert failed.status_code == 200, failed.text
        (lease,) = await miner.poll(wait=30)
        assert (await miner.deliver(lease)).status_code == 200
        async with asyncio.timeout(60):
            while not wanted <= {span.name for span in collector.spans if span.trace_id.hex() == TRACE}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    by_id = {span.span_id.hex(): span for span in spans}
    assert len(by_id) == len(spans) and lease["request_id"] == TRACE
    submit, last, lost = (by_id[span_id_of(thing)] for thing in (job, lease["attempt"], first["attempt"]))
    assert by_id[submit.parent_span_id.hex()].name == "POST /api/v1/ai/jobs"
    assert by_id[submit.parent_span_id.hex()].parent_span_id.hex() == SPAN
    assert {last.parent_span_id, lost.parent_span_id} == {submit.span_id}
    assert (lost.status.code, last.status.code) == (2, 0)
    queue = [span for span in spans if span.name == "job queue"]
    assert len(queue) == 2 and {span.parent_span_id for span in queue} == {submit.span_id}
    (settle,) = [span for span in spans if span.name == "ledger settle"]
    assert settle.parent_span_id == last.span_id and settle.start_time_unix_nano >= last.start_time_unix_nano
    assert all(0 < span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    assert b"hush" not in b"".join(one.body for one in collector.received)


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


@pytest.mark.parametrize("fault", ["redirect", "partial"])
def test_what_a_collector_did_not_take_is_logged(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    otlp = pytest.importorskip("aitbc.server.runtime.otlp")
    collector = Collector()
    if fault == "redirect":
        collector.reply = Reply(308, b"", {"Location": "https://collector.example/v1/traces"})
    else:
        refused = messages.ExportTracePartialSuccess(rejected_spans=1, error_message="over quota")
        collector.reply = Reply(body=messages.ExportTraceServiceResponse(partial_success=refused).SerializeToString())
    with structlog.testing.capture_logs() as logged:
        traces = otlp.OtlpTraces(f"{collector.url}/v1/traces", None, 1.0, "one")
        now = clock.now()
        traces.record(Span(name="a", request_id="order-17", began_at=now, ended_at=now, attributes={}))
        traces.close()
        assert len(collector.received) == 1
    if fault == "redirect":
        assert "it redirects to https://collector.example/v1/traces" in caplog.text
    else:
        [line] = [one for one in logged if one["event"] == "spans_refused"]
        assert (line["count"], line["reason"], line["log_level"]) == (1, "over quota", "warning")
