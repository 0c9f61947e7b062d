"""What a list is narrowed to: conditions that hold together, for a statement on a raw connection."""

from typing import Any


class Filters:
    """Conditions with their values; each `{}` in one stands for a value."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """One more condition: `add("account = {}", account)`."""
        self._conditions.append(condition.format(*map(self.value, values)))

    def value(self, value: Any) -> str:
        """The parameter for a value somewhere else in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def __str__(self) -> str:
        """The WHERE of the statement; nothing without a condition."""
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
