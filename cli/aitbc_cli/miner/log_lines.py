"""The log of one attempt on its way to the server: its beginning as it comes, and its end, which says how it failed."""

from collections import deque
from typing import Any

HEAD_LINES = 4900
TAIL_LINES = 100
"""Of a longer log these last lines are kept until the end: a traceback stands there."""
LINE_LENGTH_MAX = 2000
CUT = " [cut]"


class LogLines:
    """Numbers lines from 1. Past the first of them only the newest are kept, for `finish` to send after a mark."""

    def __init__(self, head: int = HEAD_LINES, tail: int = TAIL_LINES) -> None:
        self.pending: list[dict[str, Any]] = []
        """Lines that the server does not have yet."""
        self._head = head
        self._tail: deque[tuple[str, str]] = deque(maxlen=tail)
        self._sequence = 0
        self._left_out = 0

    def add(self, at: str, text: str) -> None:
        """One more line, written at a time."""
        if self._sequence < self._head:
            self._append(at, text)
            return
        self._left_out += len(self._tail) == self._tail.maxlen
        self._tail.append((at, text))

    def finish(self) -> None:
        """The log has ended: what was kept of its end is pending, after a mark that says how much was left out."""
        if self._left_out:
            self._append(self._tail[0][0], f"[{self._left_out} lines left out]")
        while self._tail:
            self._append(*self._tail.popleft())
        self._left_out = 0

    def _append(self, at: str, text: str) -> None:
        self._sequence += 1
        if len(text) > LINE_LENGTH_MAX:
            text = text[: LINE_LENGTH_MAX - len(CUT)] + CUT
        self.pending.append({"sequence": self._sequence, "at": at, "text": text})
