"""The miner's own metrics: on loopback, in Prometheus' format, and nothing that is not known."""

import asyncio
import socket
from typing import Any

import pytest

from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.metrics_page import MetricsPage
from aitbc_cli.miner.nvml import FIELDS
from aitbc_cli.miner.options import MinerFailed


class Heard(EventLog):
    """An event log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[dict[str, Any]] = []

    def note(self, event: str, **facts: Any) -> None:
        """Keep it."""
        self.notes.append({"event": event, **facts})


def page() -> MetricsPage:
    made = MetricsPage(4, lambda: 1, lambda: {"chat": True, "ocr": False})
    made.note_work("chat", "succeeded", "none", 1.5)
    made.note_work("chat", "succeeded", "none", 0.5)
    made.note_work("ocr", "failed", "miner", 2)
    made.loaded = lambda: ['a "model"']
    gpu = dict.fromkeys(FIELDS) | {
        "type": "cuda",
        "index": 0,
        "name": "H100",
        "memory_used_mib": 2,
        "rests": "draining",
    }
    made.devices = [gpu, dict.fromkeys(FIELDS) | {"type": "cpu", "index": 0}]
    return made


def test_the_page_has_what_is_known_and_leaves_out_what_is_not() -> None:
    lines = set(page().lines())
    assert {
        "aitbc_miner_slots 4",
        "aitbc_miner_slots_busy 1",
        'aitbc_miner_kind_usable{kind="ocr"} 0',
        'aitbc_miner_work_total{kind="chat",outcome="succeeded",fault="none"} 2',
        'aitbc_miner_work_seconds_total{kind="chat"} 2.0',
        'aitbc_miner_model_loaded{model="a \\"model\\""} 1',
        'aitbc_miner_gpu_memory_used_bytes{gpu="0",name="H100"} 2097152',
        'aitbc_miner_gpu_resting{gpu="0",name="H100"} 1',
    } <= lines
    assert not any("temperature" in line for line in lines)


def test_it_is_served_on_loopback_to_those_who_ask_for_it() -> None:
    async def asked(port: int, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        answer = await reader.read()
        writer.close()
        return answer

    async def scene() -> list[bytes]:
        log = Heard()
        serving = asyncio.create_task(page().serve(0, log))
        async with asyncio.timeout(20):
            while not log.notes:  # noqa: ASYNC110 - it tells nobody else
                await asyncio.sleep(0.01)
        url = log.notes[0]["url"]
        assert url.startswith("http://127.0.0.1:")
        port = int(url.split(":")[2].split("/")[0])
        texts = (b"GET /metrics HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 9000 + b"\r\n\r\n")
        answers = [await asked(port, text) for text in texts]
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return answers

    found, other, endless = asyncio.run(scene())
    assert found.startswith(b"HTTP/1.1 200 OK\r\n") and b"aitbc_miner_slots 4\n" in found
    assert other.startswith(b"HTTP/1.1 404") and endless == b""


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(MinerFailed, match="--metrics-port"):
            asyncio.run(page().serve(other.getsockname()[1], Heard()))
