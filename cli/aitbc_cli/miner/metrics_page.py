"""The miner's own metrics on loopback (`--metrics-port`): what it works on, what it can do, and what its GPUs show."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.options import MinerFailed

HOST = "127.0.0.1"
READ_SECONDS = 5.0
REQUEST_BYTES = 8192
CONNECTIONS_MAX = 8
MIB = 1024 * 1024
GPU_GAUGES: tuple[tuple[str, str, str, float], ...] = (
    ("memory_used_bytes", "memory_used_mib", "Memory in use.", MIB),
    ("memory_sellable_bytes", "memory_sellable_mib", "Memory that work can have.", MIB),
    ("utilization_ratio", "utilization", "How much of the time it worked, 0 to 1.", 0.01),
    ("temperature_celsius", "temperature_celsius", "Its temperature.", 1.0),
    ("power_watts", "power_watts", "What it draws.", 1.0),
)
"""Name, field of a device, meaning, factor. What the driver does not say is left out, and never 0."""


class MetricsPage:
    """Counts what the miner does, and answers `GET /metrics` in Prometheus' text format."""

    def __init__(self, slots: int, busy: Callable[[], int], kinds: Callable[[], Mapping[str, bool]]) -> None:
        self._slots = slots
        self._busy = busy
        self._kinds = kinds
        self._work: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._connections = 0
        self.loaded: Callable[[], Sequence[str]] = tuple
        """The served models whose engines run."""
        self.devices: Sequence[Mapping[str, Any]] = ()
        """The devices as they were last seen."""
        self.missed_heartbeats = 0

    def note_work(self, kind: str, outcome: str, fault: str, seconds: float) -> None:
        """Count a piece of work that has ended: `succeeded`, `failed` or `given_up`."""
        self._work[kind, outcome, fault] += 1
        self._seconds[kind] += seconds

    async def serve(self, port: int, event_log: EventLog) -> None:
        """Answer until it is cancelled. Raises `MinerFailed` where the port cannot be had."""
        try:
            server = await asyncio.start_server(self._answer, HOST, port, limit=REQUEST_BYTES)
        except OSError as error:
            raise MinerFailed(f"--metrics-port {port}: {error.strerror}; choose another") from None
        event_log.note("metrics_served", url=f"http://{HOST}:{server.sockets[0].getsockname()[1]}/metrics")
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(READ_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._response(head.split(b"\r\n", 1)[0].split()))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it did not ask
        finally:
            self._connections -= 1
            writer.close()

    def _response(self, words: Sequence[bytes]) -> bytes:
        is_asked = len(words) == 3 and words[0] in (b"GET", b"HEAD") and words[1].split(b"?")[0] == b"/metrics"
        body = "".join(f"{line}\n" for line in self.lines()).encode() if is_asked else b"GET /metrics\n"
        status = "200 OK" if is_asked else "404 Not Found"
        kind = "text/plain; version=0.0.4; charset=utf-8"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + (b"" if words[:1] == [b"HEAD"] else body)

    def lines(self) -> Iterable[str]:
        """The lines of the page."""
        yield from _metric("slots", "gauge", "How many jobs it does at once.", [({}, self._slots)])
        yield from _metric("slots_busy", "gauge", "How many it does now.", [({}, self._busy())])
        kinds = [({"kind": kind}, int(usable)) for kind, usable in self._kinds().items()]
        yield from _metric("kind_usable", "gauge", "Whether it can do a kind of work now.", kinds)
        work = [
            ({"kind": kind, "outcome": outcome, "fault": fault}, count)
            for (kind, outcome, fault), count in sorted(self._work.items())
        ]
        yield from _metric("work_total", "counter", "Pieces of work that have ended.", work)
        seconds = [({"kind": kind}, round(spent, 3)) for kind, spent in sorted(self._seconds.items())]
        yield from _metric("work_seconds_total", "counter", "What they took.", seconds)
        missed = "Heartbeats that the server did not answer."
        yield from _metric("heartbeats_missed_total", "counter", missed, [({}, self.missed_heartbeats)])
        loaded = [({"model": name}, 1) for name in self.loaded()]
        yield from _metric("model_loaded", "gauge", "Served models whose engines run.", loaded)
        gpus = [device for device in self.devices if device.get("type") != "cpu"]
        resting = [(_labels(gpu), int(bool(gpu.get("fault") or gpu.get("rests")))) for gpu in gpus]
        yield from _metric("gpu_resting", "gauge", "Whether it is not leased now.", resting)
        for name, field, meaning, factor in GPU_GAUGES:
            shown = [(_labels(gpu), gpu[field] * factor) for gpu in gpus if gpu.get(field) is not None]
            yield from _metric(f"gpu_{name}", "gauge", meaning, shown)


def _labels(gpu: Mapping[str, Any]) -> dict[str, str]:
    return {"gpu": str(gpu.get("index")), "name": str(gpu.get("name") or "")}


def _metric(name: str, kind: str, meaning: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> Iterable[str]:
    """The lines of one metric; none where it has no sample."""
    if not samples:
        return
    full = f"aitbc_miner_{name}"
    yield f"# HELP {full} {meaning}"
    yield f"# TYPE {full} {kind}"
    for labels, value in samples:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{full}{{{told}}} {value}" if told else f"{full} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
