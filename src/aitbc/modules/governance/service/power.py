"""Power: numbered changes of stake and delegation, and what an account has of both."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.governance.models.tables import PowerClockRow, PowerPointRow, StakeRow

# What is delegated to some accounts at a number, each share rounded down; $2 null for now.
RECEIVED = text("""
SELECT d.delegatee, d.delegator, d.basis_points, d.created_at,
       div(coalesce(p.units, 0)::numeric * d.basis_points, 10000)::bigint AS units
FROM governance.delegations d
LEFT JOIN LATERAL (SELECT units FROM governance.power_points
    WHERE account = d.delegator ORDER BY number DESC LIMIT 1) p ON true
WHERE (d.delegatee = ANY(:accounts) OR d.delegator = ANY(:accounts)) AND d.until IS NULL
ORDER BY d.delegator, d.delegatee""")


async def tick(uow: UnitOfWork) -> int:
    """The number of a change of power; nobody else takes one, and no snapshot is taken, until this commits."""
    counting = update(PowerClockRow).where(PowerClockRow.id == 1).values(number=PowerClockRow.number + 1)
    number = (await uow.session.execute(counting.returning(PowerClockRow.number))).scalar_one()
    return int(number)


async def snapshot(uow: UnitOfWork) -> tuple[int, int]:
    """The number of the last change of power that committed, and all power at it; waits for changes under way."""
    locking = select(PowerClockRow.number).where(PowerClockRow.id == 1).with_for_update(key_share=True)
    number = (await uow.session.execute(locking)).scalar_one()
    everything = (await uow.session.execute(select(total(StakeRow.locked_units)))).scalar_one()
    return int(number), int(everything)


async def add_stake(uow: UnitOfWork, account: str, units: int) -> int:
    """Change an account's stake by so much, and return what it then is; below zero nothing changes."""
    number, at = await tick(uow), now()
    adding = insert(StakeRow).values(account=account, locked_units=max(units, 0), changed_at=at)
    changed = adding.on_conflict_do_update(
        index_elements=[StakeRow.account],
        set_={"locked_units": StakeRow.locked_units + units, "changed_at": at},
        where=StakeRow.locked_units + units >= 0,
    )
    locked = (await uow.session.execute(changed.returning(StakeRow.locked_units))).scalar_one_or_none()
    if locked is None:
        return -1
    uow.add(PowerPointRow(account=account, number=number, units=locked))
    return int(locked)


async def stakes_of(session: AsyncSession, accounts: Sequence[str]) -> dict[str, int]:
    """What these accounts have locked now."""
    wanted = select(StakeRow.account, StakeRow.locked_units).where(StakeRow.account.in_(accounts))
    return {account: int(units) for account, units in await session.execute(wanted)}


async def delegations_of(session: AsyncSession, accounts: Sequence[Any]) -> Sequence[Any]:
    """What is delegated to and by these accounts (UUIDs) now."""
    return (await session.execute(RECEIVED, {"accounts": list(accounts)})).all()


async def staked_accounts(session: AsyncSession) -> int:
    """How many accounts have stake."""
    wanted = select(func.count()).select_from(StakeRow).where(StakeRow.locked_units > 0)
    return int(await session.scalar(wanted) or 0)
