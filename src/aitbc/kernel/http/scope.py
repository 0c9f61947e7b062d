"""Read a request's ASGI scope: header values, the methods that change something, and what waits."""

from typing import Any

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
COUNT_AS_WAITING = "count_as_waiting"
"""The key in a scope's state of what the boundary offers: to count this request among those that wait or stream."""


def header_values(scope: Any, name: bytes) -> list[str]:
    """The values of a header, by its name in lower case. It copies no other header, as the framework's mapping does."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def count_as_waiting(scope: Any) -> None:
    """Count a request whose route waits or streams apart from others. Raises `Overloaded` where there are too many."""
    if (count := scope["state"].get(COUNT_AS_WAITING)) is not None:
        count()
