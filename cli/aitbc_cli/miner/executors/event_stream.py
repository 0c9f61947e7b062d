"""A decoder of server-sent events, as the HTML standard describes how `text/event-stream` is read (WHATWG HTML 9.2.6).

Only the data of events is kept; their names, ids and times to reconnect mean nothing to a chat server's answer. The
package `sseclient-py` was looked at and does not fit: it splits lines at characters that the standard does not, such as
U+2028, which models write, knows no byte order mark and has no bound.
"""

import re

EVENT_BYTES_MAX = 1024 * 1024
"""The longest line, and the longest data of one event; nothing that a chat server says is longer."""
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """A line or an event has no end in sight."""


class EventStream:
    """Turns the bytes of a stream, in whatever pieces they come, into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._ends_in_cr = False
        """The last piece ended with a carriage return: a line feed at the head of the next belongs to it."""
        self._at_start = True
        self._data: list[bytes] = []
        self._length = 0

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that end in this piece. Raises `EventTooLong`."""
        if self._ends_in_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._ends_in_cr = piece.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        events: list[str] = []
        for line in lines:
            if self._at_start:
                self._at_start, line = False, line.removeprefix(_BYTE_ORDER_MARK)
            if line:
                self._take(line)
            elif self._data:
                events.append(self._dispatch())
        if len(self._rest) > EVENT_BYTES_MAX:
            raise EventTooLong
        return events

    def unfinished(self) -> str | None:
        """The data of an event that the stream ended in, which the standard discards; none where there is none."""
        if self._rest:
            self._take(self._rest.removeprefix(_BYTE_ORDER_MARK) if self._at_start else self._rest)
            self._rest = b""
        return self._dispatch() if self._data else None

    def _take(self, line: bytes) -> None:
        """One line that is not empty; a comment has an empty field name."""
        field, _, value = line.partition(b":")
        if field != b"data":
            return
        value = value.removeprefix(b" ")
        self._length += len(value) + 1
        if self._length > EVENT_BYTES_MAX:
            raise EventTooLong
        self._data.append(value)

    def _dispatch(self) -> str:
        data, self._data, self._length = b"\n".join(self._data), [], 0
        return data.decode("utf-8", "replace")
