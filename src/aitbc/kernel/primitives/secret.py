"""Secrets in memory: values that no log line, response, traceback or pickle shows."""

import hmac
from typing import NoReturn

MASK = "********"


def masked(thing: object, *fields: str) -> str:
    """The `repr` of a struct with its secret `fields` replaced by asterisks."""
    names: tuple[str, ...] = thing.__struct_fields__  # type: ignore[attr-defined]
    shown = [f"{name}={MASK if name in fields else repr(getattr(thing, name))}" for name in names]
    return f"{type(thing).__name__}({', '.join(shown)})"


class Secret:
    """Text that prints as asterisks. `reveal` is the only access, so that a search for that word finds every use."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, specification: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not copied out of its process")
