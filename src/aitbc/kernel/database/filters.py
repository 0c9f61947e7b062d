"""Build a WHERE clause with numbered parameters, for a statement on a raw connection."""

from typing import Any


class Filters:
    """Conditions joined by AND, with their parameter values; each `{}` in a condition stands for a value."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition: `add("account = {}", account)`."""
        self._conditions.append(condition.format(*map(self.value, values)))

    def value(self, value: Any) -> str:
        """Add a value that the statement uses elsewhere; returns its placeholder, such as `$3`."""
        self.values.append(value)
        return f"${len(self.values)}"

    def __str__(self) -> str:
        """The WHERE clause; empty without conditions."""
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
