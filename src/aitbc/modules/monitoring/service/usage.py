"""Usage: what was paid for work and what went back, added up from the chain, each record exactly once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.ai.api import AiApi
from aitbc.modules.monitoring.api import Usage
from aitbc.modules.monitoring.models.tables import CursorRow, UsageRow
from aitbc.modules.trading.api import SealedReceipt, TradingApi

CURSOR = "receipts"
BATCH = 500
BATCHES_MAX = 20
"""How many batches one run reads at most."""
ROWS_MAX = 1000
"""How many rows a report has at most; ask by less, or of fewer days, for the rest."""
BY = ("day", "account", "miner", "kind", "model", "key")
PAID = ("jobs", "units", "price_units", "fee_units", "earned_units")
REFUNDED = ("refunded_units", "refunded_fee_units")
SUMS = (*PAID, *REFUNDED)

Group = tuple[date, str, str, str, str, str]
"""A row: what `BY` names."""


class UsageReports:
    """Adds up what was paid, and reports it."""

    def __init__(self, db: Database, trading: TradingApi, ai: AiApi) -> None:
        self._db = db
        self._trading = trading
        self._ai = ai

    async def collect(self) -> int:
        """Add the receipts that are new in the chain; returns how many. A periodic task, safe to run twice at once."""
        total = 0
        for _ in range(BATCHES_MAX):
            added = await self._collect_batch()
            total += added
            if added < BATCH:
                break
        return total

    async def _collect_batch(self) -> int:
        async with self._db.reading() as session:
            position = await session.scalar(select(CursorRow.position).where(CursorRow.name == CURSOR))
        receipts = await self._trading.sealed_receipts(position or 0, BATCH)
        if not receipts:
            return 0
        models = dict(await self._ai.models_of([receipt.job for receipt in receipts]))
        async with self._db.unit_of_work() as uow:
            moved = insert(CursorRow).values(name=CURSOR, position=receipts[-1].sequence)
            moved = moved.on_conflict_do_update(
                index_elements=["name"],
                set_={"position": moved.excluded.position},
                where=CursorRow.position == (position or 0),
            )
            if (await uow.session.execute(moved.returning(CursorRow.name))).one_or_none() is None:
                return 0  # another process has added them
            await uow.session.execute(_added(receipts, models))
        return len(receipts)

    async def report(
        self, by: Sequence[str], *, since: date | None, until: date | None, account: str | None
    ) -> Sequence[Usage]:
        """What was paid from a day to a day, both included; newest day and largest sum first, 1000 rows at most."""
        groups = [getattr(UsageRow, name) for name in BY if name in by]
        sums = [total(getattr(UsageRow, name)).label(name) for name in SUMS if name != "units"]
        query = select(*groups, *sums)
        if since is not None:
            query = query.where(UsageRow.day >= since)
        if until is not None:
            query = query.where(UsageRow.day <= until)
        if account is not None:
            if not ids.is_id("acct", account):
                return []
            query = query.where(UsageRow.account == account)
        order = [UsageRow.day.desc()] if "day" in by else []
        query = query.group_by(*groups).order_by(*order, sums[1].desc(), *groups).limit(ROWS_MAX)
        async with self._db.reading() as session:
            return [_view(dict(row)) for row in (await session.execute(query)).mappings()]

    async def report_for(
        self, who: Principal, by: Sequence[str], *, since: date | None, until: date | None, account: str | None
    ) -> Sequence[Usage]:
        """The same for a caller: their own account's, or for an admin everybody's. Raises `Forbidden`."""
        if not who.is_admin:
            if account is not None and account != who.account:
                raise Forbidden("What others paid is for operators.")
            account = who.account
        return await self.report(by, since=since, until=until, account=account)


def _added(receipts: Sequence[SealedReceipt], models: dict[str, str]) -> Any:
    """The statement that adds receipts and refunds to their days, in the order of the keys."""
    sums: dict[Group, list[int]] = defaultdict(lambda: [0] * len(SUMS))
    firsts: dict[Group, SealedReceipt] = {}
    for one in receipts:
        day = one.issued_at.astimezone(UTC).date()
        key = (day, one.payer, one.miner, one.kind, models.get(one.job, ""), one.key or "")
        firsts.setdefault(key, one)
        paid = (1, one.units, one.price_units, one.fee_units, one.earned_units, 0, 0)
        back = (*(0 for _ in PAID), one.price_units, one.fee_units)
        for place, value in enumerate(back if one.is_refund else paid):
            sums[key][place] += value
    rows = [
        dict(zip(BY, key, strict=True))
        | {"miner_account": firsts[key].miner_account, "unit": firsts[key].unit}
        | dict(zip(SUMS, sums[key], strict=True))
        for key in sorted(sums)
    ]
    wanted = insert(UsageRow).values(rows)
    added = {name: getattr(UsageRow, name) + wanted.excluded[name] for name in SUMS}
    return wanted.on_conflict_do_update(index_elements=list(BY), set_=added)


def _view(known: Mapping[str, Any]) -> Usage:
    return Usage(
        **{name: known.get(name) for name in BY},
        jobs=int(known["jobs"]),
        price=money.render(int(known["price_units"])),
        fee=money.render(int(known["fee_units"])),
        earned=money.render(int(known["earned_units"])),
        refunded=money.render(int(known["refunded_units"])),
        refunded_fee=money.render(int(known["refunded_fee_units"])),
    )
