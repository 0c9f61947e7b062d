"""Kinds that are not the platform's own: those of trusted packages, and those of jobs whose package is gone."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.hooks.kinds import JobKind
from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure, OutputRefused

REASON_MAX = 300


class PluginKind(Kind):
    """A kind as a trusted package describes it; what its functions do wrong refuses one input or output."""

    def __init__(self, described: JobKind) -> None:
        self._described = described
        for name in ("name", "summary", "unit", "metering", "unit_price_units", "input", "output"):
            setattr(self, name, getattr(described, name))
        self.equality = (described.equality or "As its package compares them.") if described.agrees else None  # type: ignore[misc]

    def measure(self, given: Any, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """What the package counts of an input."""
        try:
            found = self._described.measure(given)
            counted = msgspec.convert(msgspec.to_builtins(found), _Counted, strict=True)
        except ValueError as error:
            message = str(error)[:REASON_MAX]
            raise InvalidInput(message, fields=(FieldError("/input", message),)) from None
        except Exception as error:  # noqa: BLE001 - whatever its author did, it ends here
            raise InvalidInput(f"Its package cannot measure this input: {type(error).__name__}.") from None
        if not 0 <= counted.units <= counted.units_max:
            raise InvalidInput("Its package cannot measure this input: it counts more than it says is the most.")
        return Measure(
            units=counted.units,
            units_max=max(counted.units_max, 1),
            expects={**counted.expects, UNITS_MAX: max(counted.units_max, 1)},
        )

    def meter(self, output: Any, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """What the package counts of an output, after it has verified it."""
        described = self._described
        given = {name: number for name, number in expects.items() if name != UNITS_MAX}
        try:
            wrong = None if described.verify is None else described.verify(output, given)
            units = 0 if wrong is not None else described.meter(output, given)
        except Exception as error:  # noqa: BLE001
            raise OutputRefused(f"its package cannot verify this output: {type(error).__name__}") from None
        if wrong is not None:
            raise OutputRefused(str(wrong)[:REASON_MAX])
        if type(units) is not int or not 0 <= units <= expects[UNITS_MAX]:
            raise OutputRefused("its package counts what it cannot be")
        return units

    def agrees(self, one: Any, other: Any) -> bool:
        """Whether two outputs say the same, as the package compares them; where it breaks they do not."""
        assert self._described.agrees is not None, "only kinds that compare outputs are verified by them"
        try:
            return bool(self._described.agrees(one, other))
        except Exception:  # noqa: BLE001
            return False


UNITS_MAX = "units_max"


class _Counted(Struct, frozen=True):
    units: int
    units_max: int
    expects: dict[str, int] = {}


class Nothing(Struct, frozen=True):
    """What a kind that is gone takes."""


class GoneKind(Kind):
    """The kind of jobs whose package is not trusted here any more: they are shown, and can only end unpaid."""

    summary = "Its package is not here any more."
    unit = "unit"
    metering = "Nothing is metered."
    unit_price_units = 0
    input = Nothing
    output = Nothing

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def measure(self, given: Any, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Nothing new is taken."""
        raise InvalidInput(f"The package of the kind {self.name} is not here any more.")

    def meter(self, output: Any, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """No output is taken."""
        raise OutputRefused(f"the package of the kind {self.name} is not here any more")
