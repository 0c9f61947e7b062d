"""Server-sent events are read as the HTML standard says, in whatever pieces they come."""

import pytest

from aitbc_cli.miner.executors.event_stream import EVENT_BYTES_MAX, EventStream, EventTooLong

READ: list[tuple[str, bytes, list[str]]] = [
    ("one event", b"data: one\n\n", ["one"]),
    ("two lines of data", b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
    ("comment, id, nameless end", b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n",
     ["first event", "second event"]),
    ("one space is taken off, not two", b"data:  third event\n\n", [" third event"]),
    ("no space", b"data:test\n\ndata: test\n\n", ["test", "test"]),
    ("empty data, and a line that is only the field's name", b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
    ("an empty data line", b"data: \n\ndata: one\n\n", ["", "one"]),
    ("empty lines alone", b"\n\n\n", []),
    ("an event without data", b"event: ping\nid: 7\nretry: 100\n\ndata: one\n\n", ["one"]),
    ("line ends of carriage returns", b"data: one\r\rdata: two\r\r", ["one", "two"]),
    ("line ends of both", b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
    ("mixed line ends", b"data: one\r\ndata: two\rdata: three\n\n", ["one\ntwo\nthree"]),
    ("a byte order mark", b"\xef\xbb\xbfdata: one\n\n", ["one"]),
    ("two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbfdata: one\n\ndata: two\n\n", ["two"]),
    ("a mark further on is part of a name", b"data: one\n\n\xef\xbb\xbfdata: two\n\n", ["one"]),
    ("other separators are none", "data: a\u2028b\x0bc\x85d\n\n".encode(), ["a\u2028b\x0bc\x85d"]),
    ("a name with other letters", b"Data: one\n data: two\ndata : three\n\n", []),
    ("colons in the value", b"data: a:b: c\n\n", ["a:b: c"]),
    ("bytes that are no text", b"data: \xff\n\n", ["\ufffd"]),
    ("the last event without its empty line", b"data: one\n\ndata: two\n", ["one"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "events"), [case[1:] for case in READ], ids=[case[0] for case in READ])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_a_stream_is_read_alike_in_pieces_of_any_size(content: bytes, events: list[str], size: int) -> None:
    stream = EventStream()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert [event for piece in pieces for event in stream.feed(piece)] == events


def test_an_event_is_there_with_the_carriage_return_that_ends_it() -> None:
    stream = EventStream()
    assert stream.feed(b"data: one\r\n\r") == ["one"]
    assert stream.feed(b"\ndata: two\r\r") == ["two"]


def test_what_the_stream_ended_in_can_be_asked_for() -> None:
    stream = EventStream()
    assert stream.feed(b"data: one\n\ndata: tw") == ["one"]
    assert stream.unfinished() == "tw"
    assert stream.unfinished() is None


@pytest.mark.parametrize("line", [b"data: " + b"x" * EVENT_BYTES_MAX + b"x", b"data: " + b"x" * 1000 + b"\n"])
def test_neither_lines_nor_events_are_without_end(line: bytes) -> None:
    stream = EventStream()
    with pytest.raises(EventTooLong):
        [stream.feed(piece) for piece in [line] * 2000]
