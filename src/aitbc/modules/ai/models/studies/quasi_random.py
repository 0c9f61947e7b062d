"""Parameters spread evenly over all that may be: the points of a scrambled Halton sequence, one for each trial.

In base b, the n-th point is n's digits mirrored at the point (J. H. Halton, Numerische Mathematik 2, 1960), each
parameter in a prime of its own. The digits are exchanged by a permutation made of the seed, without which parameters
of large primes would run in step (E. Braaten and G. Weller, Journal of Computational Physics 33, 1979).
"""

import math
import random
from collections.abc import Mapping
from typing import Any

from aitbc.modules.ai.models.studies.shapes import StudyParam

_RESOLUTION = 2.0**-40


def quasi_random(params: Mapping[str, StudyParam], index: int, seed: int) -> dict[str, Any]:
    """The parameters of the trial with this number, the first of which is 0. They depend on nothing else."""
    names = sorted(params)
    return {
        name: _value(params[name], _coordinate(index + 1, base, seed))
        for name, base in zip(names, _primes(len(names)), strict=True)
    }


def _coordinate(number: int, base: int, seed: int) -> float:
    """The mirrored digits of a number in a base, exchanged: from 0 to below 1."""
    exchanged = list(range(base))
    random.Random(f"{seed}/{base}").shuffle(exchanged)
    found, weight = 0.0, 1.0 / base
    while weight > _RESOLUTION:  # also the zeros before the first digit, which may be exchanged for another
        number, digit = divmod(number, base)
        found += exchanged[digit] * weight
        weight /= base
    return min(found, 1.0 - _RESOLUTION)


def _value(param: StudyParam, at: float) -> Any:
    """The value at a place from 0 to below 1 between the least and the most."""
    if param.type == "choice":
        return param.choices[int(at * len(param.choices))]
    assert param.low is not None and param.high is not None, "checked when the study was created"
    if param.type == "float" and param.step is None:
        return min(max(_between(param.low, param.high, at, log=param.log), param.low), param.high)
    if param.log:
        low, high = int(param.low), int(param.high)
        return min(max(round(_between(low - 0.5, high + 0.5, at, log=True)), low), high)
    step = param.step or 1
    steps = math.floor((param.high - param.low) / step + 1e-9) + 1
    value = param.low + step * int(at * steps)
    return int(value) if param.type == "int" else min(value, param.high)


def _between(low: float, high: float, at: float, *, log: bool) -> float:
    if log:
        return math.exp(_between(math.log(low), math.log(high), at, log=False))
    return low * (1 - at) + high * at


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found
