"""Sampling: optuna asked which parameters to try next, which trials to stop, and which parameters matter.

Nothing of it is kept: each question is answered by a study that is made anew in memory of the rows (0105).
"""

import asyncio
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.ai.models.studies.shapes import CreateStudy
from aitbc.modules.ai.models.studies.values import Trial

IMPORTANCE_MIN = 4
"""Of fewer trials with a value nothing is said about parameters."""


class StudiesNotInstalled(NotDone):
    """This server was installed without the extra `study`, which samples parameters."""

    code = "studies_not_installed"


class Advice(Struct):
    """What optuna says of a study."""

    params: list[dict[str, Any]]
    """The parameters of the next trials."""
    worse: list[int]
    """The trials under way that are to be stopped."""


def is_installed() -> bool:
    """Whether this server can sample parameters."""
    return importlib.util.find_spec("optuna") is not None


def require_installed() -> None:
    """Raises `StudiesNotInstalled`."""
    if not is_installed():
        raise StudiesNotInstalled("Install the server with its extra: pip install 'aitbc[server,study]'.")


async def advise(spec: CreateStudy, trials: Sequence[Trial], wanted: int, looked_at: Sequence[int]) -> Advice:
    """The parameters of `wanted` further trials, and which of those looked at are to be stopped."""
    params, worse = await asyncio.to_thread(_optuna().advice, spec, trials, wanted, looked_at)
    return Advice(params, worse)


async def importance(spec: CreateStudy, trials: Sequence[Trial]) -> dict[str, float] | None:
    """How much each parameter decides about the values, 1 in all; none where too few trials say it."""
    if sum(one.value is not None for one in trials) < IMPORTANCE_MIN or not is_installed():
        return None
    found: dict[str, float] | None = await asyncio.to_thread(_optuna().importance, spec, trials)
    return found


def _optuna() -> Any:
    """The file that imports optuna, loaded when it is asked: half a second, and an extra that a server may lack."""
    require_installed()
    return importlib.import_module("aitbc.modules.ai.service.studies.optuna_study")
