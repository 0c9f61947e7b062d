"""Answers of a chat server that come piece by piece, as server-sent events of the OpenAI protocol."""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from aitbc_cli.miner.executors.chat_answer import CHOICES_MAX, StreamedChoice
from aitbc_cli.miner.executors.event_stream import EventStream, EventTooLong
from aitbc_cli.miner.executors.fields import clean_text

DONE = "[DONE]"
"""What ends a stream, in the place of a chunk."""


class BrokenStream(Exception):
    """The stream is none, or ended before the answer did; the message says how."""


class StreamedAnswer:
    """Puts an answer together out of its pieces, and reports each piece of text as it comes."""

    def __init__(
        self, tell: Callable[[str], None], *, bytes_max: int, require: Callable[[str], None] = lambda _: None
    ) -> None:
        self.model: str | None = None
        self.usage: dict[str, Any] = {}
        self._first = StreamedChoice()
        self._further: dict[int, StreamedChoice] = {}
        self._tell = tell
        self._require = require
        self._texts: list[str] = []
        self._events = EventStream()
        self._is_over = False
        """Whether the stream said that it ends."""
        self._half = ""
        """The first half of a character that comes in two."""
        self._room = bytes_max

    @property
    def text(self) -> str:
        """All the text that was reported."""
        return "".join(self._texts)

    @property
    def has_begun(self) -> bool:
        """Whether text was reported."""
        return bool(self._texts)

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended."""
        return self._first.finish_reason

    @property
    def is_reasoning(self) -> bool:
        """Whether the model wrote more than its answer."""
        return self._first.is_reasoning

    @property
    def whole(self) -> dict[str, Any]:
        """It in the shape of an answer that came whole."""
        further = [choice.whole("".join(choice.texts)) for _, choice in sorted(self._further.items())]
        return {"model": self.model, "choices": [self._first.whole(self.text), *further], "usage": self.usage}

    def feed(self, piece: bytes) -> None:
        """Take what came. Raises `BrokenStream`, and `OverflowError` for more text than there is room."""
        try:
            events = self._events.feed(piece)
        except EventTooLong:
            raise BrokenStream("sent a line without an end") from None
        for data in events:
            self._take(data)
        self._pass_on()

    def end(self) -> None:
        """Nothing more comes. Raises as `feed`, and `BrokenStream` in the middle of the answer."""
        try:
            rest = self._events.unfinished()  # a last event without its empty line
        except EventTooLong:
            raise BrokenStream("sent a line without an end") from None
        if rest is not None and _chunks_of(rest) is not None:
            self._take(rest)
        self._pass_on(last=True)
        if not self._is_over and self.finish_reason is None:
            raise BrokenStream("ended in the middle of its answer")

    def _take(self, data: str) -> None:
        chunks = _chunks_of(data)
        if chunks is None:
            raise BrokenStream("sent a piece that is not JSON")
        for chunk in chunks:
            if chunk == DONE:
                self._is_over = True
            else:
                self._add(chunk)

    def _add(self, chunk: Any) -> None:
        if not isinstance(chunk, dict) or chunk.get("error") or chunk.get("object") == "error":
            raise BrokenStream("broke off with an error")
        if isinstance(chunk.get("model"), str):
            if self.model != chunk["model"]:
                self._require(chunk["model"])  # before a word of it is told
            self.model = chunk["model"]
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choose(choice)

    def _choose(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        if not isinstance(index, int) or index <= 0:
            before = self._first.calls.length
            self._half += self._first.take(choice)
            self._need_room(self._first.calls.length - before)
        elif index < CHOICES_MAX:
            further = self._further.setdefault(index, StreamedChoice())
            before = further.calls.length
            text = further.take(choice)
            further.texts.append(text)
            self._need_room(len(text.encode("utf-8", "surrogatepass")) + further.calls.length - before)

    def _need_room(self, length: int) -> None:
        self._room -= length
        if self._room < 0:
            raise OverflowError

    def _pass_on(self, *, last: bool = False) -> None:
        """Report what came, but for half a character, whose other half is on its way."""
        held = self._half[-1:] if not last and "\ud800" <= self._half[-1:] <= "\udbff" else ""
        text, self._half = clean_text(self._half[: len(self._half) - len(held)]), held
        if text:
            self._need_room(len(text.encode()))
            self._texts.append(text)
            self._tell(text)


def _chunks_of(data: str) -> list[Any] | None:
    """The chunks in the data of an event: one, or none in an empty one. None at all for what is not JSON.

    A server that leaves out the empty lines between its events gets all of them read as one, each chunk on its own
    line.
    """
    data = data.strip()
    try:
        return [_chunk_of(data)] if data else []
    except (ValueError, RecursionError):
        pass
    try:
        return [_chunk_of(line) for line in data.split("\n") if line.strip()] if "\n" in data else None
    except (ValueError, RecursionError):
        return None


def _chunk_of(text: str) -> Any:
    if text.strip() == DONE:
        return DONE
    try:
        return msgspec.json.decode(text)  # a fifth of the time, and stricter
    except (msgspec.MsgspecError, UnicodeError):
        return json.loads(text)
