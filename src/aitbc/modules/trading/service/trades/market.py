"""What trades hear of the market: its offers, which requests are matched with, and bookings and jobs of agreements."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.events import AgreedBookingChanged, AgreedWorkChanged, OfferChanged
from aitbc.modules.trading.models.trades.life import TradeState
from aitbc.modules.trading.models.trades.tables import TradeAgreementRow, TradeOfferRow, TradeSettlementRow
from aitbc.modules.trading.models.trades.values import METERED, WORK_TYPE
from aitbc.modules.trading.service.trades.commands import TradeAgreementNotFound
from aitbc.modules.trading.service.trades.payments import ended_event
from aitbc.modules.trading.service.trades.rows import advance, cancel_agreement, lock_request

SOLD = "compute_resources"
OFTEN = 1_000_000
"""How many agreements an offer of the market is good for: whether its time is free, the market says."""
MIB_PER_GIB = 1_024


async def take_offers(uow: UnitOfWork, events: Sequence[OfferChanged]) -> None:
    """Let requests be matched with what is on the market, at its newest price and conditions."""
    newest: dict[str, OfferChanged] = {}
    for event in sorted(events, key=lambda one: one.version):
        newest[event.offer] = event
    rows = [_told(event) for _, event in sorted(newest.items())]
    if not rows:
        return
    writing = insert(TradeOfferRow).values(rows)
    kept = ("id", "taken", "created_at", "capacity", "trade_type", "seller", "market_offer")
    newer = {name: writing.excluded[name] for name in rows[0] if name not in kept}
    older = TradeOfferRow.market_version < writing.excluded.market_version
    await uow.session.execute(writing.on_conflict_do_update(index_elements=["id"], set_=newer, where=older))


def _told(event: OfferChanged) -> dict[str, Any]:
    models = [name.strip()[:100] for name in event.gpu_model.split(",") if name.strip()]
    specifications: dict[str, Any] = {"gpu": models[:20]} if models else {}
    if event.vram_mib:
        specifications["vram_gb"] = round(event.vram_mib / MIB_PER_GIB)
    is_work = event.sells == "work"
    title = f"{models[0] if models else 'A device'} by the hour"
    if is_work:
        title = f"{event.job_kind} with {event.model or 'any model'} by the unit"
    return {
        "id": ids.encode("toff", ids.decode("offer", event.offer)),
        "seller": event.account,
        "trade_type": WORK_TYPE if is_work else SOLD,
        "title": title[-100:],
        "description": "",
        "price_units": event.price_units,
        "specifications": msgspec.json.encode(specifications).decode(),
        "regions": [event.region] if event.region else [],
        "service_level": "standard",
        "capacity": OFTEN,
        "taken": 0,
        "starts_at": None,
        "ends_at": None,
        "state": "open" if event.state == "open" else "closed",
        "created_at": now(),
        "valid_until": event.valid_until,
        "market_offer": event.offer,
        "market_version": event.version,
        "min_seconds": event.min_seconds,
        "max_seconds": event.max_seconds,
        "work_kind": event.job_kind,
        "work_model": event.model,
    }


async def follow_market(uow: UnitOfWork, events: Sequence[AgreedBookingChanged | AgreedWorkChanged]) -> None:
    """Move agreements on with their bookings or their jobs; what is heard late or twice changes nothing."""
    for event in sorted(events, key=lambda one: (one.agreement, one.news == "ended")):
        row = await uow.find(TradeAgreementRow, event.agreement, missing=TradeAgreementNotFound)
        await lock_request(uow, row.request)
        await uow.session.refresh(row)
        if row.state not in (TradeState.AGREED, TradeState.SETTLING) or row.settlement_type != METERED:
            continue
        row.reason = event.reason
        if isinstance(event, AgreedWorkChanged):
            row.jobs = list(event.jobs)
        else:
            row.booking = event.booking
        await uow.session.flush()
        if event.news == "refused":
            if row.state == TradeState.AGREED:
                await cancel_agreement(uow, row, now())
            continue
        if row.state == TradeState.AGREED:
            await advance(uow, row, TradeState.SETTLING)
        if event.news == "ended":
            await _settle(uow, row, event)


async def _settle(uow: UnitOfWork, row: TradeAgreementRow, event: AgreedBookingChanged | AgreedWorkChanged) -> None:
    """Write down what a booking or jobs paid: the money has moved, slice by slice or job by job."""
    state, at = TradeState.COMPLETED if event.paid_units else TradeState.FAILED, now()
    # Its sides may have agreed to another price meanwhile, and each slice is rounded to a minor unit.
    total = max(row.price_units, event.paid_units)
    settlement = TradeSettlementRow(
        id=ids.new_id("tset"),
        request=row.request,
        agreement=row.id,
        buyer=row.buyer,
        seller=row.seller,
        settlement_type=METERED,
        total_units=total,
        fee_units=event.fee_units,
        net_units=event.paid_units - event.fee_units,
        refunded_units=total - event.paid_units,
        state=state,
        started_at=row.signed_at,
        ended_at=at,
    )
    uow.add(settlement)
    await uow.session.flush()
    await advance(uow, row, state, at)
    uow.publish(ended_event(settlement))
