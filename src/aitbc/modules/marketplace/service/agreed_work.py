"""Work by agreement: trading says what a buyer and a seller agreed on, and its jobs are placed, watched and told of.

An agreement is heard once, in the unit of work that writes its jobs down; the keeper places them, as often as it takes,
for the miner of the offer alone and at the price that was agreed on. They hold their money as any other jobs.
"""

from collections.abc import Sequence

import msgspec
import structlog
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.database.walk import keys_of
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, TooMany
from aitbc.modules.ai.api import AgreedTerms, AiApi, JobDetail, SubmitFor
from aitbc.modules.marketplace.events import AgreedWorkChanged
from aitbc.modules.marketplace.models.agreed_work import PLACED_WITHIN, WAITS, AgreedWorkRow
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.terms import deal, terms_of
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.events import AgreementSigned

OVER = ("succeeded", "failed", "canceled", "expired")
ASKED_BY = "agreement"
"""Stands for the key of jobs that nobody's key submits."""

log = structlog.get_logger("aitbc.marketplace")


async def hear_agreed_work(uow: UnitOfWork, events: Sequence[AgreementSigned]) -> None:
    """Write down the jobs of agreements about offers of work; each that cannot be placed is refused."""
    for event in sorted(events, key=lambda one: one.agreement):
        if event.market_offer is None or event.job_kind is None:
            continue
        offer = await uow.session.get(OfferRow, event.market_offer)
        reason = await _refusal(uow, event, offer)
        if reason is not None or offer is None:
            uow.publish(_refused(event, reason))
            continue
        writing = insert(AgreedWorkRow).values(
            agreement=event.agreement,
            offer=offer.id,
            payer=event.buyer,
            owner=event.seller,
            miner=offer.miner,
            kind=event.job_kind,
            unit_price_units=event.unit_price_units,
            job_price_units=event.job_price_units,
            inputs=msgspec.json.encode(event.inputs).decode(),
            jobs=[],
            state="placing",
            reason=None,
            paid_units=0,
            signed_at=event.signed_at,
            ended_at=None,
        )
        await uow.session.execute(writing.on_conflict_do_nothing())


async def _refusal(uow: UnitOfWork, event: AgreementSigned, offer: OfferRow | None) -> str | None:
    """Why an agreement cannot be kept; none where it can, as far as is known before its jobs are submitted."""
    if event.signed_at + PLACED_WITHIN < now():
        return "too_late"
    about = (event.seller, "work", event.job_kind, event.model)
    if offer is None or (offer.account, offer.sells, offer.kind, offer.model) != about:
        return "no_such_offer"
    if offer.state != "open" or offer.valid_until <= now():
        return "offer_not_open"
    if not event.unit_price_units:
        return "does_not_fit"
    if not deal(await terms_of(uow, (event.buyer, event.seller)), event.buyer, event.seller):
        return "not_admitted"
    return None


def _refused(event: AgreementSigned, reason: str | None) -> AgreedWorkChanged:
    return AgreedWorkChanged(
        agreement=event.agreement, jobs=(), payer=event.buyer, owner=event.seller, news="refused", reason=reason
    )


class WorkKeeper:
    """Moves agreed work on."""

    def __init__(self, database: Database, ai: AiApi, trading: TradingApi) -> None:
        self._database = database
        self._ai = ai
        self._trading = trading

    async def keep(self) -> None:
        """Look at all work that is not over once."""
        async for page in keys_of(self._database, AgreedWorkRow.agreement, AgreedWorkRow.ended_at.is_(None)):
            for agreement in page:
                try:
                    await self.advance(agreement)
                except AppError as error:  # the next round tries again
                    log.warning("agreed_work_waits", agreement=agreement, reason=error.message)

    async def advance(self, agreement: str) -> None:
        """Do the next step of an agreement's work."""
        async with self._database.reading() as session:
            row = await session.get_one(AgreedWorkRow, agreement)
        if row.state == "placing":
            await self._place(row)
        elif row.state == "placed":
            await self._conclude(row)

    async def _place(self, row: AgreedWorkRow) -> None:
        """Submit the jobs, each once; where one is refused, the others are taken back as far as nobody has done them.

        Raises what may pass by itself, for an hour.
        """
        jobs: list[str] = []
        for number, value in enumerate(msgspec.json.decode(row.inputs, type=list[dict[str, object]]), start=1):
            order = SubmitFor(
                account=row.payer,
                key=ASKED_BY,
                kind=row.kind,
                input=value,
                max_price=money.render(row.job_price_units),
                queue_seconds=WAITS,
                request_key=f"{ASKED_BY}:{row.agreement}:{number}",
                agreed=AgreedTerms(miner=row.miner, offer=row.offer, unit_price_units=row.unit_price_units),
            )
            try:
                jobs.append((await self._ai.submit_for(order)).id)
            except AppError as refusal:
                if _may_pass(refusal) and now() < row.signed_at + PLACED_WITHIN:
                    raise
                for job in jobs:
                    await self._ai.cancel_for(row.payer, ASKED_BY, job)
                return await self._note_placed(row.agreement, jobs, refusal.code)
        return await self._note_placed(row.agreement, jobs, None)

    @retrying
    async def _note_placed(self, agreement: str, jobs: Sequence[str], refusal: str | None) -> None:
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, agreement)
            if row.state != "placing":
                return
            row.jobs, row.inputs, row.state, row.reason = list(jobs), "[]", "placed", refusal
            if refusal is not None and not jobs:
                row.state, row.ended_at = "ended", now()
                tell(uow, row, "refused")
            else:
                tell(uow, row, "placed")

    async def _conclude(self, row: AgreedWorkRow) -> None:
        """Say how the jobs ended once all of them are over, and the receipts of those that succeeded are written."""
        seen = [await self._ai.job_of(row.payer, job) for job in row.jobs]
        if any(job.state not in OVER for job in seen):
            return
        receipts = [job.receipt for job in seen if job.receipt is not None]
        paid = await self._trading.parties(receipts) if receipts else ()
        if len(paid) < len(receipts):
            return  # a result is paid a moment after it was accepted
        await self._note_ended(
            row.agreement,
            row.reason or _reason(seen),
            sum(one.price_units for one in paid),
            sum(one.fee_units for one in paid),
        )

    @retrying
    async def _note_ended(self, agreement: str, reason: str, paid_units: int, fee_units: int) -> None:
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, agreement)
            if row.state == "placed":
                row.state, row.reason, row.paid_units, row.ended_at = "ended", reason, paid_units, now()
                tell(uow, row, "ended", paid_units, fee_units)


async def _locked(uow: UnitOfWork, agreement: str) -> AgreedWorkRow:
    return await uow.session.get_one(AgreedWorkRow, agreement, with_for_update=True, populate_existing=True)


def _may_pass(refusal: AppError) -> bool:
    """Whether what was refused may be taken later: it is not what was asked that was wrong."""
    return refusal.status >= 500 or isinstance(refusal, TooMany)


def _reason(jobs: Sequence[JobDetail]) -> str:
    """How the jobs ended, in the word of the first that did not succeed."""
    return next((job.reason for job in jobs if job.state != "succeeded"), "completed")


def tell(uow: UnitOfWork, row: AgreedWorkRow, news: str, paid_units: int = 0, fee_units: int = 0) -> None:
    """Publish what became of agreed work, for both its sides and for who keeps the agreement."""
    uow.publish(
        AgreedWorkChanged(
            agreement=row.agreement,
            jobs=tuple(row.jobs),
            payer=row.payer,
            owner=row.owner,
            news=news,
            reason=row.reason,
            paid_units=paid_units,
            fee_units=fee_units,
        )
    )
