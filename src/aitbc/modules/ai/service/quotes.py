"""Quotes: what a job would cost, where it would queue and who could take it."""

import functools
from collections.abc import Sequence

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import schema_of
from aitbc.modules.ai.models.asks import covers
from aitbc.modules.ai.models.fleet import filter_counts, own_miners
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.kinds.registry import KINDS, price_of
from aitbc.modules.ai.models.preference import Candidate
from aitbc.modules.ai.models.prospects import KindInfo, Quote, QuotedOffer
from aitbc.modules.ai.models.readers import readers_of
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.job_queue import JobQueue
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.planner import Plan, Planner, affordable

OFFERS_SHOWN = 3
_schema = functools.cache(schema_of)


class Quotes:
    """Lists the kinds of work and quotes jobs; nothing is changed."""

    def __init__(self, planner: Planner, queue: JobQueue, fleet_view: FleetView, payments: Payments) -> None:
        self._planner = planner
        self._queue = queue
        self._fleet_view = fleet_view
        self._payments = payments

    def kinds(self) -> Sequence[KindInfo]:
        """Every kind of work with its shapes, its meter and its price."""
        return [
            KindInfo(
                name=kind.name,
                summary=kind.summary,
                unit=kind.unit,
                unit_price=money.render(self._planner.prices.listed(kind)),
                metering=kind.metering,
                streams=kind.streams,
                input_schema=_schema(kind.input),
                output_schema=_schema(kind.output),
            )
            for kind in KINDS.values()
        ]

    def unit_price_units(self, kind: Kind) -> int:
        """The price of one unit of a kind, in minor units of money."""
        return self._planner.prices.listed(kind)

    async def quote(self, who: Principal, command: SubmitJob) -> Quote:
        """What the job would cost and who could take it; nothing is changed."""
        plan = await self._planner.plan(who, command)
        fee = await self._payments.quote_fee(plan.price_max_units)
        fleet = await self._fleet_view.miners()
        counts = filter_counts(plan.needs, fleet, avoided="")
        ranked = await self._planner.ranked(plan, command.prefer, await self._planner.candidates(plan, fleet))
        return Quote(
            kind=plan.kind.name,
            unit=plan.kind.unit,
            unit_price=money.render(plan.unit_price_units),
            units=plan.measure.units,
            units_max=plan.measure.units_max,
            price=money.render(plan.copies * price_of(plan.measure.units, plan.unit_price_units, money.LARGEST)),
            verification=plan.verification,
            answers_max=plan.copies,
            price_max=money.render(plan.price_max_units),
            fee_basis_points=fee.basis_points,
            fee_max=money.render(fee.fee_units),
            max_price=command.max_price,
            sufficient=plan.max_price_units >= plan.price_max_units,
            position=await self._queue.next_position(who.account, plan.needs, plan.priority),
            miners_eligible=counts[-1].after,
            own_miners=len(own_miners(who.account, plan.needs, fleet)),
            filters=counts,
            offers=_offers(plan, ranked.candidates),
            prefer=command.prefer,
            kept_for=() if command.prefer is None else affordable(plan, command.prefer, ranked),
            readable_by=readers_of(
                verification=plan.verification,
                booking=plan.needs.booking,
                kept_seconds=plan.retention_seconds,
                has_files=bool(plan.files),
                judged_by_plugins=self._planner.prices.judges_results,
            ),
        )


def _offers(plan: Plan, candidates: Sequence[Candidate]) -> tuple[QuotedOffer, ...]:
    """The best of these that are offers, with what the job would cost there."""
    offered = [(one, one.ask) for one in candidates if one.ask is not None]
    return tuple(
        QuotedOffer(
            offer=ask.offer,
            miner=one.miner,
            unit_price=money.render(ask.units),
            price=money.render(plan.copies * price_of(plan.measure.units, ask.units, money.LARGEST)),
            price_max=money.render(plan.copies * price_of(plan.measure.units_max, ask.units, money.LARGEST)),
            sufficient=covers(plan.share_units, plan.measure.units_max, ask),
            units_per_second=one.units_per_second,
            jobs_measured=0 if one.speed is None else one.speed.jobs,
        )
        for one, ask in offered[:OFFERS_SHOWN]
    )
