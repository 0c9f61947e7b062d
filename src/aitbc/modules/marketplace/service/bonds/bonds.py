"""Bonds as owners, payers and the operator ask for them: locked, wanted back, appealed for, decided and read."""

from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound
from aitbc.modules.marketplace.models.bonds import (
    DECIDE_WITHIN,
    LEAST_UNITS,
    LEAVES_AFTER,
    BondRow,
    MarketBond,
    SlashRow,
)
from aitbc.modules.marketplace.service.bonds.keeper import BondKeeper
from aitbc.modules.marketplace.service.bonds.rows import lock_bond, open_bond, tell, viewed
from aitbc.modules.trading.api import InsufficientFunds


class BondNotFound(NotFound):
    """This account has no bond."""

    code = "bond_not_found"


class BondExists(Conflict):
    """This account has a bond; want it back first, and make another one when it has left."""

    code = "bond_exists"


class SlashNotFound(NotFound):
    """There is no such slash of a bond, or it is another owner's."""

    code = "slash_not_found"


class SlashNotOpen(Conflict):
    """This slash was appealed against, decided, paid or dropped before."""

    code = "slash_not_open"


class Locked(Struct, frozen=True):
    """The id of a bond that a request has made."""

    id: str


class Bonds:
    """Makes, decides and shows bonds."""

    def __init__(self, database: Database, keeper: BondKeeper) -> None:
        self._database = database
        self._keeper = keeper

    async def lock(self, who: Principal, amount_units: int, once: IdempotencyKey) -> MarketBond:
        """Lock money of the caller's as a bond. Raises `Invalid`, `BondExists`, `InsufficientFunds`."""
        if amount_units < LEAST_UNITS:
            raise Invalid(fields=(FieldError("/amount", f"Expected {money.render(LEAST_UNITS)} or more"),))
        bond = await self._make(who, amount_units, once)
        if (await self._keeper.read(bond)).state == "locking" and not await self._keeper.lock(bond):
            raise InsufficientFunds(needed=money.render(amount_units))
        async with self._database.unit_of_work() as uow:
            return await viewed(uow, await uow.session.get_one(BondRow, bond))

    @retrying
    async def _make(self, who: Principal, amount_units: int, once: IdempotencyKey) -> str:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Locked)) is not None:
                return earlier.id
            if await open_bond(uow, who.account) is not None:
                raise BondExists
            row = BondRow(
                id=ids.new_id("bond"),
                account=who.account,
                amount_units=amount_units,
                slashed_units=0,
                hold=ids.new_id("hold"),
                state="locking",
                created_at=now(),
                leaves_at=None,
                ended_at=None,
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "bond.lock", row.id, amount=money.render(amount_units))
            await uow.answer(once, Locked(id=row.id))
            return row.id

    @retrying
    async def leave(self, who: Principal) -> MarketBond:
        """Want the caller's bond back: it stays for 30 days, without the mark. Again, it changes nothing.

        Raises `BondNotFound`.
        """
        async with self._database.unit_of_work() as uow:
            row = await open_bond(uow, who.account, lock=True)
            if row is None:
                raise BondNotFound
            if row.leaves_at is None:
                row.leaves_at = now() + LEAVES_AFTER
                row.state = "leaving" if row.state == "locked" else row.state
                tell(uow, row, "leaving")
                await uow.audit(who.account, who.key, "bond.leave", row.id)
            return await viewed(uow, row)

    async def of(self, account: str) -> MarketBond:
        """The bond of an account, for everybody. Raises `BondNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await open_bond(uow, account) if ids.is_id("acct", account) else None
            if row is None:
                raise BondNotFound
            return await viewed(uow, row)

    @retrying
    async def appeal(self, who: Principal, slash: str, words: str) -> MarketBond:
        """Say why nothing is to be taken, once: then the operator decides within seven days, or it is dropped.

        Raises `SlashNotFound`, `SlashNotOpen`.
        """
        async with self._database.unit_of_work() as uow:
            bond, row = await _locked(uow, slash)
            if row.owner != who.account:
                raise SlashNotFound
            if row.state == "appealed" and row.appeal == words:
                return await viewed(uow, bond)
            if row.state != "announced" or row.due_at <= now():
                raise SlashNotOpen
            row.state, row.appeal, row.due_at = "appealed", words, now() + DECIDE_WITHIN
            tell(uow, bond, "slash_appealed", row)
            await uow.audit(who.account, who.key, "bond.appeal", row.id)
            return await viewed(uow, bond)

    @retrying
    async def decide(self, who: Principal, slash: str, *, upholds: bool, words: str) -> MarketBond:
        """Decide an appeal, as the operator: it is taken, or dropped. Raises `SlashNotFound`, `SlashNotOpen`."""
        async with self._database.unit_of_work() as uow:
            bond, row = await _locked(uow, slash)
            if row.resolution == words and row.state == ("paying" if upholds else "dropped"):
                return await viewed(uow, bond)
            if row.state != "appealed":
                raise SlashNotOpen
            row.resolution = words
            if upholds:
                row.state = "paying"
            else:
                row.state, row.ended_at = "dropped", now()
            tell(uow, bond, "slash_upheld" if upholds else "slash_dropped", row)
            await uow.audit(who.account, who.key, "bond.decide", row.id, upholds=upholds)
            return await viewed(uow, bond)


async def _locked(uow: UnitOfWork, slash: str) -> tuple[BondRow, SlashRow]:
    """A slash and its bond, locked."""
    found = await uow.find(SlashRow, slash, missing=SlashNotFound)
    bond = await lock_bond(uow, found.bond)
    await uow.session.refresh(found)
    return bond, found
