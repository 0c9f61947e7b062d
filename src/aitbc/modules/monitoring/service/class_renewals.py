"""Renewals of service classes: the next period is bought shortly before the last one ends, for as long as it is sold.

A renewal is of the very class that was bought, so at its price; a class that was withdrawn, or declared anew, ends it.
"""

import structlog
from sqlalchemy import and_, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict
from aitbc.modules.monitoring.models.class_tables import ClassPurchaseRow, ServiceClassRow
from aitbc.modules.monitoring.models.service_classes import ACTIVE, KEPT, MISSED, PLACED, RENEWED_BEFORE, renewed_from
from aitbc.modules.monitoring.service.class_purchases import (
    AT_ONCE,
    ClassPurchase,
    ClassPurchaseNotFound,
    ClassPurchases,
    last_bought,
    placed_row,
    renewal_ended,
)

log = structlog.get_logger("aitbc.monitoring")


class ClassPurchaseOver(Conflict):
    """A period that is over is not renewed any more; buy a new one."""

    code = "class_purchase_over"


class ClassRenewals:
    """Says which periods are renewed, and renews them."""

    def __init__(self, db: Database, purchases: ClassPurchases) -> None:
        self._db = db
        self._purchases = purchases

    @retrying
    async def choose(self, who: Principal, purchase: str, *, renews: bool) -> ClassPurchase:
        """Say whether this class is renewed after this period; again changes nothing.

        Raises `ClassPurchaseNotFound`, and `ClassPurchaseOver` for one that is to be renewed and is over.
        """
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ClassPurchaseRow, purchase, lock=True, missing=ClassPurchaseNotFound)
            if row.account != who.account:
                raise ClassPurchaseNotFound
            if renews and (row.state not in (PLACED, ACTIVE) or row.ends_at <= now()):
                raise ClassPurchaseOver
            same = (ClassPurchaseRow.account == row.account, ClassPurchaseRow.service_class == row.service_class)
            others = update(ClassPurchaseRow).where(*same, ClassPurchaseRow.renews, ClassPurchaseRow.id != row.id)
            await uow.session.execute(others.values(renews=False))
            if row.renews != renews:
                row.renews = renews
                await uow.audit(who.account, who.key, "service_class.renewal", row.id, after={"renews": renews})
        return await self._purchases.get(who, purchase)

    async def run_due(self) -> int:
        """Place the next periods of those that end soon; returns how many. Their money is set aside right after."""
        bought = ClassPurchaseRow.state.in_((ACTIVE, KEPT, MISSED))
        soon = and_(ClassPurchaseRow.renews, ClassPurchaseRow.ends_at <= now() + RENEWED_BEFORE, bought)
        query = select(ClassPurchaseRow.id).where(soon).order_by(ClassPurchaseRow.ends_at).limit(AT_ONCE)
        async with self._db.reading() as session:
            due = (await session.scalars(query)).all()
        placed = 0
        for purchase in due:
            try:
                placed += await self._place_next(purchase)
            except AppError as error:  # the next round tries again
                log.warning("class_renewal_postponed", purchase=purchase, reason=error.message)
        return placed

    @retrying
    async def _place_next(self, purchase: str) -> bool:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ClassPurchaseRow, purchase, lock=True, missing=ClassPurchaseNotFound)
            if not row.renews or now() < renewed_from(row.starts_at, row.ends_at):
                return False
            row.renews = False
            bought = await uow.session.get(ServiceClassRow, row.service_class)
            assert bought is not None, "a foreign key holds it"
            if bought.removed_at is not None:
                uow.publish(renewal_ended(row, bought, "The class is not sold any more."))
                return False
            last = await last_bought(uow, row.account, row.service_class)
            if last is not None and last is not row:  # bought by hand meanwhile: that one is renewed
                last.renews = True
                return False
            following = placed_row(bought, row, account=row.account, key=row.key, renews=True, previous=row.id)
            uow.add(following)
            await uow.audit(row.account, row.key, "service_class.renew", following.id, service_class=bought.name)
            return True
