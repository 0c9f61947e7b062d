"""A decoder of the chunked transfer coding (RFC 9112 7.1), for bodies that are read as they come.

The standard library gives such a body out chunk by chunk, so that a stream of small ones costs a read and a turn of the
thread for each. This takes whatever has arrived.
"""

LINE_BYTES_MAX = 4096
"""The longest line with a chunk's size, or of a trailer."""


class MalformedBody(ValueError):
    """This is no chunked body."""


class ChunkedBody:
    """Turns the bytes of a connection, in whatever pieces they come, into those of the body."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        """How much of the chunk is still to come; its end of line counts."""
        self._in_trailers = False
        self.is_over = False
        """Whether the body has ended."""

    def feed(self, piece: bytes) -> bytes:
        """The bytes of the body in this piece. Raises `MalformedBody`."""
        found: list[bytes] = []
        data = self._rest + piece
        self._rest = b""
        while data and not self.is_over:
            if self._left:
                data = self._take(data, found)
                continue
            line, newline, after = data.partition(b"\n")
            if not newline:
                if len(line) > LINE_BYTES_MAX:
                    raise MalformedBody("a line has no end")
                self._rest = data
                break
            data = after
            self._read_line(line.rstrip(b"\r"))
        return b"".join(found)

    def _take(self, data: bytes, found: list[bytes]) -> bytes:
        """Take what belongs to the chunk; returns what does not."""
        content = max(self._left - 2, 0)
        found.append(data[:content])
        taken = min(self._left, len(data))
        self._left -= taken
        return data[taken:]

    def _read_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.is_over = not line
            return
        size = line.partition(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError:
            raise MalformedBody("a chunk has no size") from None
        if length < 0 or b"_" in size or size[:1] in b"+-":
            raise MalformedBody("a chunk has no size")
        if length:
            self._left = length + 2
        else:
            self._in_trailers = True
