"""Answers of a chat server that come piece by piece, as server-sent events of the OpenAI protocol."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aitbc_cli.miner.executors.fields import clean_text

LINE_BYTES_MAX = 1024 * 1024
"""The longest line of a stream; a longer one is nothing that a chat server says."""
REASONING = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks beside its answer."""


class BrokenStream(Exception):
    """The stream is none, or ended before the answer did; the message says how."""


class StreamedAnswer:
    """Puts an answer together out of its pieces, and reports each piece of text as it comes."""

    def __init__(self, tell: Callable[[str], None], *, bytes_max: int) -> None:
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] = {}
        self.is_reasoning = False
        """Whether the model wrote more than its answer: then its count of tokens is not that of the answer."""
        self._tell = tell
        self._texts: list[str] = []
        self._half = ""
        """The first half of a character that comes in two."""
        self._room = bytes_max

    @property
    def text(self) -> str:
        """All the text that was reported."""
        return "".join(self._texts)

    def read(self, pieces: Iterable[bytes]) -> None:
        """Read the stream to its end. Raises `BrokenStream`, and `OverflowError` for more text than there is room."""
        is_over = False
        for piece in pieces_of_lines(pieces):
            for line in piece:
                is_over = self._take(line) or is_over
            self._pass_on()
        self._pass_on(last=True)
        if not is_over and self.finish_reason is None:
            raise BrokenStream("ended in the middle of its answer")

    def _take(self, line: bytes) -> bool:
        """One line of the stream; whether it is the one that ends it."""
        field, _, value = line.partition(b":")
        if field != b"data":
            return False
        value = value.strip()
        if value == b"[DONE]":
            return True
        try:
            chunk = json.loads(value)
        except (ValueError, RecursionError):
            raise BrokenStream("sent a piece that is not JSON") from None
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise BrokenStream("broke off with an error")
        if isinstance(chunk.get("model"), str):
            self.model = chunk["model"]
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choose(choices[0])
        return False

    def _choose(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if isinstance(delta.get("content"), str):
                self._half += delta["content"]
            self.is_reasoning = self.is_reasoning or any(delta.get(name) for name in REASONING)
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]

    def _pass_on(self, *, last: bool = False) -> None:
        """Report what came, but for half a character, whose other half is on its way."""
        held = self._half[-1:] if not last and "\ud800" <= self._half[-1:] <= "\udbff" else ""
        text, self._half = clean_text(self._half[: len(self._half) - len(held)]), held
        if text:
            self._room -= len(text.encode())
            if self._room < 0:
                raise OverflowError
            self._texts.append(text)
            self._tell(text)


def pieces_of_lines(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The whole lines in each piece, the rest of the last one at the end. Raises `BrokenStream` for an endless line."""
    left = b""
    for piece in pieces:
        *lines, left = (left + piece).split(b"\n")
        if len(left) > LINE_BYTES_MAX:
            raise BrokenStream("sent a line without an end")
        if lines:
            yield [line.rstrip(b"\r") for line in lines]
    if left:
        yield [left]
