"""Rows of bonds: found, locked, viewed and told of; whoever changes a slash locks its bond first."""

from sqlalchemy import func, select

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.events import MarketBondChanged
from aitbc.modules.marketplace.models.bonds import APPEAL_WITHIN, BondRow, MarketBond, SlashRow, bond_view
from aitbc.modules.marketplace.models.disputes import DisputeRow, fee_of

SHOWN = 50
PENDING = ("announced", "appealed", "paying")


async def lock_bond(uow: UnitOfWork, bond: str) -> BondRow:
    """A bond, locked."""
    return await uow.session.get_one(BondRow, bond, with_for_update=True, populate_existing=True)


async def open_bond(uow: UnitOfWork, account: str, *, lock: bool = False) -> BondRow | None:
    """The bond of an account that is not over; none where there is none."""
    wanted = select(BondRow).where(BondRow.account == account, BondRow.state != "ended")
    if lock:
        wanted = wanted.with_for_update(key_share=True)
    return (await uow.session.scalars(wanted, execution_options={"populate_existing": True})).one_or_none()


async def pending_units(uow: UnitOfWork, bond: str) -> int:
    """What is announced to be taken of a bond."""
    wanted = select(total(SlashRow.amount_units)).where(SlashRow.bond == bond, SlashRow.state.in_(PENDING))
    return (await uow.session.scalar(wanted)) or 0


async def pending(uow: UnitOfWork, bond: str) -> bool:
    """Whether something is announced to be taken of a bond."""
    wanted = select(func.count()).select_from(SlashRow).where(SlashRow.bond == bond, SlashRow.state.in_(PENDING))
    return bool(await uow.session.scalar(wanted))


async def viewed(uow: UnitOfWork, row: BondRow) -> MarketBond:
    """A bond with what was taken of it."""
    await uow.session.flush()
    wanted = select(SlashRow).where(SlashRow.bond == row.id).order_by(SlashRow.id.desc()).limit(SHOWN)
    return bond_view(row, list(await uow.session.scalars(wanted)))


async def announce(uow: UnitOfWork, dispute: DisputeRow, short_units: int) -> None:
    """Announce that what an owner did not have, as a dispute was decided, is taken of the bond, as far as it goes."""
    bond = await open_bond(uow, dispute.owner, lock=True)
    if bond is None or bond.state not in ("locked", "leaving"):
        return
    amount = min(short_units, bond.amount_units - await pending_units(uow, bond.id))
    if amount <= 0:
        return
    slash = SlashRow(
        id=ids.new_id("slsh"),
        bond=bond.id,
        dispute=dispute.id,
        owner=dispute.owner,
        payer=dispute.account,
        amount_units=amount,
        fee_units=fee_of(dispute, amount),
        state="announced",
        appeal=None,
        resolution=None,
        due_at=now() + APPEAL_WITHIN,
        transaction=None,
        created_at=now(),
        ended_at=None,
    )
    uow.add(slash)
    tell(uow, bond, "slash_announced", slash)


def tell(uow: UnitOfWork, bond: BondRow, news: str, slash: SlashRow | None = None) -> None:
    """Publish what happened to a bond, for its owner and for who gets something of it."""
    uow.publish(
        MarketBondChanged(
            bond=bond.id,
            owner=bond.account,
            payer=bond.account if slash is None else slash.payer,
            news=news,
            state=bond.state,
            amount=money.render(bond.amount_units),
            slash=None if slash is None else slash.id,
            dispute=None if slash is None else slash.dispute,
            taken=None if slash is None else money.render(slash.amount_units),
            due_at=None if slash is None or slash.ended_at is not None else slash.due_at,
        )
    )
