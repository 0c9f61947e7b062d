"""What a unit of work costs: the list price of its kind, and what plugins make of it; and who may submit at all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import (
    JUDGE_RESULT,
    PRICE,
    RANK_OFFERS,
    VALIDATE_SUBMISSION,
    OffersRanked,
    PriceAsked,
    Submission,
)
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.ai.models.kinds.kind import Kind, Measure
from aitbc.modules.ai.models.kinds.registry import use_kinds
from aitbc.modules.ai.models.preference import Candidate, Prefer, ranked
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.service.terms import Terms

OFFERS_RANKED_MAX = 100
"""So many of the best offers plugins are asked about."""
MANY = 2
"""Of fewer there is nothing to rank."""


class SubmissionRefused(Forbidden):
    """A plugin of this platform refuses this job; the message says why."""

    code = "submission_refused"


class Ranked(NamedTuple):
    """Candidates, the best first."""

    candidates: list[Candidate]
    by_plugin: bool
    """Whether a plugin put them so."""


class Prices:
    """Prices work, ranks who could do it, and asks whether it may be submitted."""

    def __init__(self, terms: Terms, hooks: Hooks) -> None:
        """The kinds that trusted packages add are sold from now on."""
        self._terms = terms
        self._hooks = hooks
        use_kinds(hooks.kinds)

    def require_open(self) -> None:
        """Raises `ModulePaused` while governance has new work stopped."""
        self._terms.require_open()

    def listed(self, kind: Kind) -> int:
        """The list price of one unit, in minor units of money."""
        return self._terms.unit_price(kind)

    def off_peak(self, unit_price_units: int) -> int:
        """The price of one unit of what can wait, from what it costs at once."""
        return self._terms.off_peak(unit_price_units)

    @property
    def judges_results(self) -> bool:
        """Whether plugins are asked about results, and so are shown them."""
        return self._hooks.has(JUDGE_RESULT)

    def kept_seconds(self, wanted: int) -> int:
        """How long what a job is asked and answered is kept after its end, of the seconds that it asks for."""
        return self._terms.kept_seconds(wanted)

    async def of(self, who: Principal, kind: Kind, needs: Needs, measure: Measure) -> int:
        """The price of one unit for this caller, in minor units of money."""
        price = self.listed(kind)
        if not self._hooks.has(PRICE):
            return price
        asked = PriceAsked(
            at=int(now().timestamp()),
            account=who.account,
            kind=kind.name,
            model=needs.model or "",
            units_max=measure.units_max,
            unit_price_units=price,
            list_price_units=price,
        )
        return (await self._hooks.fold(PRICE, asked)).unit_price_units

    async def ranked(
        self, who: str, needs: Needs, measure: Measure, candidates: Sequence[Candidate], prefer: Prefer | None
    ) -> Ranked:
        """The candidates, the best first: by what the payer prefers, and as plugins then put them."""
        best = ranked(candidates, prefer or "cheapest")
        if len(best) < MANY or not self._hooks.has(RANK_OFFERS):
            return Ranked(best, False)
        shown = best[:OFFERS_RANKED_MAX]
        asked = OffersRanked(
            at=int(now().timestamp()),
            account=who,
            kind=needs.kind,
            model=needs.model or "",
            prefer=prefer or "",
            units_max=measure.units_max,
            count=len(shown),
            offers=msgspec.json.encode([_shown(one) for one in shown]).decode(),
        )
        answered = await self._hooks.fold(RANK_OFFERS, asked)
        if answered is asked:
            return Ranked(best, False)
        by_miner = {one.miner: one for one in shown}
        put = [by_miner[one["miner"]] for one in msgspec.json.decode(answered.offers)]
        return Ranked([*put, *best[OFFERS_RANKED_MAX:]], True)

    async def require_allowed(
        self, who: Principal, needs: Needs, measure: Measure, *, limit_units: int, priority: int
    ) -> None:
        """Raises `SubmissionRefused` where a plugin refuses the job, with its reason."""
        if not self._hooks.has(VALIDATE_SUBMISSION):
            return
        wanted = Submission(
            at=int(now().timestamp()),
            account=who.account,
            kind=needs.kind,
            model=needs.model or "",
            units=measure.units,
            units_max=measure.units_max,
            max_price_units=limit_units,
            priority=priority,
        )
        refusal = await self._hooks.first(VALIDATE_SUBMISSION, wanted)
        if refusal is not None:
            raise SubmissionRefused(
                f"{refusal.plugin} refuses this job: {refusal.answer.reason}", plugin=refusal.plugin
            )


def _shown(one: Candidate) -> dict[str, Any]:
    """A candidate, as plugins see it."""
    speed = one.units_per_second
    return {
        "miner": one.miner,
        "offer": None if one.ask is None else one.ask.offer,
        "unit_price_units": one.unit_price_units,
        "units_per_1000_seconds": None if speed is None else round(speed * 1000),
        "is_free": one.is_free,
    }
