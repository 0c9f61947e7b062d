"""What a unit of work costs: the list price of its kind, and what plugins make of it; and who may submit at all."""

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import PRICE, VALIDATE_SUBMISSION, PriceAsked, Submission
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.ai.models.kinds.kind import Kind, Measure
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.service.terms import Terms


class SubmissionRefused(Forbidden):
    """A plugin of this platform refuses this job; the message says why."""

    code = "submission_refused"


class Prices:
    """Prices work, and asks whether it may be submitted."""

    def __init__(self, terms: Terms, hooks: Hooks) -> None:
        self._terms = terms
        self._hooks = hooks

    def require_open(self) -> None:
        """Raises `ModulePaused` while governance has new work stopped."""
        self._terms.require_open()

    def listed(self, kind: Kind) -> int:
        """The list price of one unit, in minor units of money."""
        return self._terms.unit_price(kind)

    def off_peak(self, unit_price_units: int) -> int:
        """The price of one unit of what can wait, from what it costs at once."""
        return self._terms.off_peak(unit_price_units)

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
