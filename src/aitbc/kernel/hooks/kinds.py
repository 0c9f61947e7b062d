"""Kinds of work that trusted packages add: the shape of what is asked and answered, a meter, and a verifier.

A package has a `JobKind` as a name of the module that its entry point names. Its functions are called in the process
for each job of the kind, so they must be quick, and depend on nothing but what they are given.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", re.ASCII)
"""With a dash, so that no kind of the platform's own ever has it."""


class Metered(Struct, frozen=True, kw_only=True):
    """What an input is metered at before the work is done."""

    units: int
    """What the input alone is metered at."""
    units_max: int
    """The most that input and output together can be metered at: what is held pays for so many."""
    expects: Mapping[str, int] = {}
    """Whole numbers that meter and verifier get with the output."""


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """A kind of work. Raise `ValueError` in `measure` for an input that cannot be, with words for its sender."""

    name: str
    """For example `acme-reverse`."""
    summary: str
    """What is done, in one sentence."""
    unit: str
    """What is counted, in the singular: `character`."""
    metering: str
    """The rule of the meter, in one sentence."""
    unit_price_units: int
    """What a unit costs in minor units, unless the settings say otherwise (`ai.unit_prices`)."""
    input: type[Struct]
    output: type[Struct]
    measure: Callable[[Any], Metered]
    """Of an input."""
    meter: Callable[[Any, Mapping[str, int]], int]
    """The units of an output, given what was expected of it; no more than `units_max` are paid."""
    verify: Callable[[Any, Mapping[str, int]], str | None] | None = None
    """Why an output cannot be the right one; none for one that can. Without it the shape alone is checked."""
    agrees: Callable[[Any, Any], bool] | None = None
    """Whether two outputs of one input say the same; without it the kind cannot be verified by other miners."""
    equality: str = ""
    """When two agree, in one sentence."""

    def wrong(self) -> str | None:
        """Why this kind cannot be used; none for one that can."""
        if not NAME.fullmatch(self.name) or len(self.name) > 40:
            return "its name is not two words or more with dashes between"
        if not 0 <= self.unit_price_units <= 10**15:
            return "its price is none"
        return None
