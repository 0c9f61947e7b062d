"""The end of a log is never what is left out, and whatever is left out or cut says so."""

from typing import Any

import pytest

from aitbc_cli.miner.executors.program import Captured
from aitbc_cli.miner.executors.work import Progress
from aitbc_cli.miner.executors.worker import Reporter
from aitbc_cli.miner.log_lines import LogLines


def read(content: bytes, *, limit: int = 100_000, size: int = 1000) -> tuple[Captured, list[str]]:
    """A stream that came in pieces, and its lines."""
    lines: list[str] = []
    stream = Captured(limit, lines.append)
    for start in range(0, len(content), size):
        stream.feed(content[start : start + size])
    stream.finish()
    return stream, lines


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_head_and_tail_of_a_stream_are_kept_with_a_mark_between(size: int) -> None:
    stream, _ = read(b"a" * 25 + b"b" * 900 + b"c" * 75, limit=100, size=size)
    assert stream.truncated
    assert stream.text() == f"{'a' * 25}\n[900 bytes left out]\n{'c' * 75}"
    stream, _ = read("ä".encode() * 50, limit=100, size=size)
    assert (stream.truncated, stream.text()) == (False, "ä" * 50)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_progress_bar_leaves_its_last_state(size: int) -> None:
    bar = b"".join(b"\r%3d %%" % percent for percent in range(101))
    _, lines = read(b"start\r\n" + bar + b"\r\nend\n" + b"half\rwhole", size=size)
    assert lines == ["start", "100 %", "end", "whole"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_cut_line_says_so(size: int) -> None:
    _, lines = read(b"x" * 600 + b"\n" + b"y" * 500 + b"\n" + b"z" * 600 + b"\rshort\n", size=size)
    assert lines == ["x" * 500 + " [cut]", "y" * 500, "short"]


def log_of(count: int, **bounds: int) -> list[dict[str, Any]]:
    log = LogLines(**bounds)
    for number in range(1, count + 1):
        log.add("now", f"line {number}")
    log.finish()
    log.finish()
    return log.pending


@pytest.mark.parametrize("count", [0, 1, 9, 10, 13])
def test_a_log_within_the_bounds_is_whole(count: int) -> None:
    assert [line["text"] for line in log_of(count, head=10, tail=3)] == [f"line {n}" for n in range(1, count + 1)]


def test_a_longer_log_keeps_its_end_after_a_mark() -> None:
    lines = log_of(100, head=10, tail=3)
    texts = [line["text"] for line in lines]
    assert texts == [*(f"line {n}" for n in range(1, 11)), "[87 lines left out]", "line 98", "line 99", "line 100"]
    assert [line["sequence"] for line in lines] == list(range(1, 15))


def test_a_long_line_says_that_it_is_cut() -> None:
    log = LogLines()
    log.add("now", "x" * 2001)
    assert len(log.pending[0]["text"]) == 2000 and log.pending[0]["text"].endswith("x [cut]")


def test_a_batch_of_quick_lines_keeps_its_end() -> None:
    sent: list[dict[str, Any]] = []
    reporter = Reporter(sent.append)
    for number in range(3000):
        reporter.report(Progress(None, [f"line {number}"]))
    for line in ("Traceback (most recent call last):", "ValueError: boom"):
        reporter.report(Progress(None, [line]))
    reporter.flush()
    lines = [line for message in sent for line in message["lines"]]
    assert lines[-2:] == ["Traceback (most recent call last):", "ValueError: boom"]
    left_out = sum(int(line[1:].split()[0]) for line in lines if line.startswith("["))
    assert left_out + sum(not line.startswith("[") for line in lines) == 3002
