"""Requests for work: the jobs that an agreement places, how many units they are, and what they cost; pure."""

from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.trading.models.trades.views import TradeWork

BYTES_MAX = 65_536
"""How large the inputs of a request may be together, as JSON."""


class WantedWork(Struct, frozen=True, kw_only=True):
    """The jobs that a request is for."""

    kind: str
    model: str | None = None
    """The model that the offer must be for; none for an offer for any."""
    units: int
    """How many metered units one job may have at most."""
    inputs: tuple[dict[str, Any], ...]
    """What each job is asked; none once something is agreed on."""
    jobs: int
    """How many they are."""

    @property
    def units_in_all(self) -> int:
        """How many metered units all jobs may have together."""
        return self.units * self.jobs

    def agreed(self, price_units: int) -> dict[str, Any]:
        """What an agreement says of the jobs, at what was agreed on for all of them, each part rounded down."""
        return {
            "job_kind": self.kind,
            "model": self.model,
            "unit_price_units": price_units // self.units_in_all,
            "job_price_units": price_units // self.jobs,
            "inputs": self.inputs,
        }


def work_of(text: str | None) -> WantedWork | None:
    """The jobs behind their text; none of a request for something else."""
    return None if text is None else msgspec.json.decode(text, type=WantedWork)


def without_inputs(text: str | None) -> str | None:
    """The same jobs without what they are asked: from then on only their jobs know it."""
    work = work_of(text)
    return None if work is None else msgspec.json.encode(msgspec.structs.replace(work, inputs=())).decode()


def work_view(text: str | None) -> TradeWork | None:
    """The jobs of a request as callers see them."""
    work = work_of(text)
    return None if work is None else TradeWork(job_kind=work.kind, model=work.model, units=work.units, jobs=work.jobs)
