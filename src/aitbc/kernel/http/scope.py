"""What a request's ASGI scope says, read without the framework."""

from typing import Any

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def header_values(scope: Any, name: bytes) -> list[str]:
    """The values of a header, by its name in lower case, straight from the request: the framework would copy all of them."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
