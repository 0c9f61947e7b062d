"""Read a request's ASGI scope: header values, and the methods that change something."""

from typing import Any

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def header_values(scope: Any, name: bytes) -> list[str]:
    """The values of a header, by its name in lower case. It copies no other header, as the framework's mapping does."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
