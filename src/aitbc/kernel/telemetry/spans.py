"""Spans of what goes on under a request, told to whoever collects them; nothing is made where nobody does."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct


class Span(Struct, frozen=True, kw_only=True):
    """A piece of work with its beginning and end."""

    name: str
    """What it is, of few values: `job queue`."""
    request_id: str
    """The request it belongs to, which says its trace."""
    began_at: datetime
    ended_at: datetime
    id: str = ""
    """Its id in hexadecimal; empty for a random one."""
    parent: str | None = None
    """The span that it is a part of; none for one that begins the trace here."""
    attributes: Mapping[str, str | int] = {}
    """What is told of it. No secret, no input, no output."""
    failed: bool = False


Collector = Callable[[Span], None]
_collectors: list[Collector] = []


def collect(collector: Collector) -> None:
    """Tell every span from now on to a collector, which must return at once."""
    _collectors.append(collector)


def leave(collector: Collector) -> None:
    """Tell it no more."""
    _collectors.remove(collector)


def is_traced() -> bool:
    """Whether anybody collects spans: what is costly to find out for one is not looked for without."""
    return bool(_collectors)


def record(span: Span) -> None:
    """Tell a span that has ended."""
    for collector in _collectors:
        collector(span)
