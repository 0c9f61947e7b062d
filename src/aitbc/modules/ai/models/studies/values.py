"""What trials are made of and what they come to: inputs with parameters in them, values and reports; pure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.templates import places_in
from aitbc.modules.ai.models.graphs.places import Made, PlaceUnknown, Values
from aitbc.modules.ai.models.studies.shapes import STEPS_MAX, CreateStudy, StudyParam, TrialState

PARAMS = "params"
_REPORT = re.compile(r"\s*aitbc\.report\s+(\d{1,9})\s+(\S{1,40})\s*\Z")
FAILED_IN_ROW_MAX = 10


class Trial(Struct, kw_only=True):
    """A trial as it is read, and as a step leaves it."""

    number: int
    state: str
    params: dict[str, Any]
    value: float | None = None
    reports: list[tuple[int, float]] = []
    job: str | None = None
    spent_units: int = 0
    message: str = ""


class _ParamValues(Values):
    """The parameters of one trial, at `params.NAME`."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__({}, {})
        self._params = params

    def at(self, place: str) -> Any:
        """The value of a parameter. Raises `PlaceUnknown`."""
        name, _, param = place.partition(".")
        if name != PARAMS or param not in self._params:
            raise PlaceUnknown(place)
        return self._params[param]


def filled(spec: CreateStudy, params: Mapping[str, Any]) -> dict[str, Any]:
    """The input of a trial's job. Raises `PlaceUnknown`."""
    value: dict[str, Any] = _ParamValues(params).fill(spec.input)
    return value


def unnamed(spec: CreateStudy) -> set[str]:
    """The parameters that the input does not name. Raises `TooDeep`."""
    return set(spec.params) - {place.partition(".")[2] for place in places_in(spec.input)}


def wrong_param(param: StudyParam) -> str | None:
    """What is wrong with how a parameter is written; none where nothing is."""
    if param.type == "choice":
        return None if param.choices else "A choice has at least one value."
    if param.choices or param.low is None or param.high is None:
        return "A number has low and high, and no choices."
    if not (math.isfinite(param.low) and math.isfinite(param.high) and param.low <= param.high):
        return "low is at most high."
    if param.log and (param.low <= 0 or param.step not in ((None, 1) if param.type == "int" else (None,))):
        return "A number that is drawn by its logarithm is above zero, and has no step."
    if param.step is not None and not (param.step > 0 and math.isfinite(param.step)):
        return "step is above zero."
    if param.type == "int" and any(x is not None and x != int(x) for x in (param.low, param.high, param.step)):
        return "low, high and step of a whole number are whole numbers."
    return None


def value_of(spec: CreateStudy, output: Any) -> float | None:
    """What the objective came to by the output of a job; none where no finite number stands there."""
    made = Made(output=output, digest=None, job=None, state="succeeded")
    try:
        found = Values({}, {"trial": made}).at(f"trial.{spec.objective.value}")
    except PlaceUnknown:
        return None
    if isinstance(found, str):
        lines = found.strip().splitlines()
        found = _number(lines[-1].strip()) if lines else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) else None


def reports_of(lines: Iterable[str]) -> list[tuple[int, float]]:
    """The values that a job reports in its log, `aitbc.report STEP VALUE` a line, by step; the last of each counts."""
    found: dict[int, float] = {}
    for line in lines:
        match = _REPORT.match(line)
        value = None if match is None else _number(match[2])
        if match is not None and value is not None and math.isfinite(value) and len(found) < STEPS_MAX:
            found[int(match[1])] = value
    return sorted(found.items())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def failed_in_row(trials: Sequence[Trial]) -> int:
    """How many of the trials that ended last failed without one that did not, by their numbers."""
    count = 0
    for trial in reversed([one for one in trials if one.state in ("complete", "pruned", "failed")]):
        if trial.state != TrialState.FAILED:
            break
        count += 1
    return count


def best_of(spec: CreateStudy, trials: Iterable[Trial]) -> Trial | None:
    """The complete trial with the best value, the earliest of several."""
    complete = [one for one in trials if one.value is not None]
    sign = 1.0 if spec.objective.direction == "minimize" else -1.0
    return min(complete, key=lambda one: (sign * (one.value or 0.0), one.number), default=None)
