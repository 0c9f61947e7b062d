"""Stake: locked in the ledger, unlocked after a delay, and delegated in shares."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct
from sqlalchemy import select, text, update

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.money import checked, render
from aitbc.modules.governance.models.life import ALL
from aitbc.modules.governance.models.tables import DelegationRow, MoveRow, StakeRow
from aitbc.modules.governance.models.views import GovernanceDelegation, GovernanceMove, GovernancePower, move_view
from aitbc.modules.governance.service.moves import Moves, new_move
from aitbc.modules.governance.service.power import add_stake, delegations_of, stakes_of, tick
from aitbc.modules.governance.service.refusals import (
    DelegateeNotFound,
    DelegationCycle,
    NoStake,
    StakeRefused,
    StakeTooSmall,
)
from aitbc.modules.governance.service.settings import Rulebook
from aitbc.modules.trading.api import InsufficientFunds

DELEGATEES_MAX = 20
# Whom the delegations of an account lead to, over others, in any number of steps.
REACHED = text("""
WITH RECURSIVE reached AS (
    SELECT delegatee FROM governance.delegations WHERE delegator = ANY(:starts) AND until IS NULL
    UNION SELECT d.delegatee FROM governance.delegations d JOIN reached r ON d.delegator = r.delegatee
    WHERE d.until IS NULL)
SELECT delegatee FROM reached WHERE delegatee = :account LIMIT 1""")


class MoveId(Struct, frozen=True):
    """The answer that a command of stake is remembered by."""

    id: str


class Share(Struct, frozen=True):
    """A share of power for somebody."""

    delegatee: str
    basis_points: int


class Stakes:
    """Locks, unlocks and delegates."""

    def __init__(self, db: Database, moves: Moves, rules: Rulebook, identity: Identity) -> None:
        self._db = db
        self._moves = moves
        self._rules = rules
        self._identity = identity

    async def lock(self, who: Principal, units: int, once: IdempotencyKey) -> GovernanceMove:
        """Lock money of the caller's: it gives power from then on.

        A repetition goes on where the first was interrupted. Raises `InsufficientFunds`, and `StakeRefused` when that
        was the answer before.
        """
        move, fresh = await self._write(who, checked(units), once)
        state = await self._moves.run(move)
        if state == "refused":
            raise InsufficientFunds if fresh else StakeRefused
        return await self._view(move)

    @retrying
    async def _write(self, who: Principal, units: int, once: IdempotencyKey) -> tuple[str, bool]:
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MoveId)) is not None:
                return earlier.id, False
            owner = who.account
            row = new_move("stake", f"{owner}/main", f"{owner}/stake", units, at=now(), account=owner)
            uow.add(row)
            await uow.audit(owner, who.key, "stake.lock", row.id, amount=render(units))
            await uow.answer(once, MoveId(row.id))
            return row.id, True

    @retrying
    async def unlock(self, who: Principal, units: int, once: IdempotencyKey) -> GovernanceMove:
        """Take power back: the money returns when the delay is over. Raises `StakeTooSmall`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MoveId)) is not None:
                return move_view(await uow.session.get_one(MoveRow, earlier.id))
            owner, at = who.account, now()
            stake = await uow.session.get(StakeRow, owner)
            if stake is None or await add_stake(uow, owner, -checked(units)) < 0:
                raise StakeTooSmall
            due = at + timedelta(seconds=self._rules.of("unlock_seconds"))
            route = (f"{owner}/stake", f"{owner}/main")
            row = new_move("unstake", *route, units, at=at, due_at=due, account=owner)
            uow.add(row)
            await uow.audit(owner, who.key, "stake.unlock", row.id, amount=render(units))
            await uow.answer(once, MoveId(row.id))
            return move_view(row)

    async def power(self, account: str) -> GovernancePower:
        """What an account could vote with now."""
        key = ids.decode("acct", account)
        unlocking = select(total(MoveRow.amount_units)).where(
            MoveRow.account == account, MoveRow.purpose == "unstake", MoveRow.state == "due"
        )
        async with self._db.reading() as session:
            own = (await stakes_of(session, [account])).get(account, 0)
            delegations = await delegations_of(session, [key])
            waiting = int((await session.execute(unlocking)).scalar_one())
        received = sum(row.units for row in delegations if row.delegatee == key)
        return GovernancePower(
            account=account,
            own=render(own),
            received=render(received),
            power=render(own + received),
            unlocking=render(waiting),
            delegations=tuple(
                GovernanceDelegation(
                    delegator=ids.encode("acct", row.delegator),
                    delegatee=ids.encode("acct", row.delegatee),
                    basis_points=row.basis_points,
                    units=render(row.units),
                    since=row.created_at,
                )
                for row in delegations
            ),
        )

    async def moves_of(self, account: str, *, limit: int, after: str | None) -> Sequence[GovernanceMove]:
        """What was locked and unlocked, and deposits, newest first."""
        wanted = select(MoveRow).where(MoveRow.account == account)
        if after is not None:
            wanted = wanted.where(MoveRow.id < after)
        async with self._db.reading() as session:
            return [move_view(row) for row in await session.scalars(wanted.order_by(MoveRow.id.desc()).limit(limit))]

    async def delegate(self, who: Principal, shares: Sequence[Share]) -> GovernancePower:
        """Let others vote with shares of the caller's power, in place of what was delegated before.

        Raises `NoStake`, `DelegateeNotFound`, `DelegationCycle`, and `Invalid` for more than everything.
        """
        _check(who, shares)
        for share in shares:
            if not await self._identity.has_account(share.delegatee):
                raise DelegateeNotFound
        await self._delegate(who, shares)
        return await self.power(who.account)

    @retrying
    async def _delegate(self, who: Principal, shares: Sequence[Share]) -> None:
        async with self._db.unit_of_work() as uow:
            number, at = await tick(uow), now()
            if shares and await uow.session.get(StakeRow, who.account) is None:
                raise NoStake
            ending = update(DelegationRow).where(DelegationRow.delegator == who.account, DelegationRow.until.is_(None))
            await uow.session.execute(ending.values(until=number))
            for share in shares:
                uow.add(
                    DelegationRow(
                        delegator=who.account,
                        delegatee=share.delegatee,
                        since=number,
                        until=None,
                        basis_points=share.basis_points,
                        created_at=at,
                    )
                )
            await uow.session.flush()
            await _refuse_cycles(uow, who.account, shares)
            named = {share.delegatee: share.basis_points for share in shares}
            await uow.audit(who.account, who.key, "power.delegate", who.account, shares=named)

    async def _view(self, move: str) -> GovernanceMove:
        async with self._db.reading() as session:
            return move_view(await session.get_one(MoveRow, move))


def _check(who: Principal, shares: Sequence[Share]) -> None:
    named = {share.delegatee for share in shares}
    if len(named) != len(shares) or who.account in named or len(shares) > DELEGATEES_MAX:
        message = f"Expected up to {DELEGATEES_MAX} different accounts, none of them your own"
        raise Invalid(fields=(FieldError("/shares", message),))
    if sum(share.basis_points for share in shares) > ALL:
        raise Invalid(fields=(FieldError("/shares", f"Expected {ALL} basis points at most in all"),))


async def _refuse_cycles(uow: UnitOfWork, account: str, shares: Sequence[Share]) -> None:
    """All delegations change one after the other, so nobody closes a circle meanwhile. Raises `DelegationCycle`."""
    starts = [ids.decode("acct", share.delegatee) for share in shares]
    found = await uow.session.execute(REACHED, {"starts": starts, "account": ids.decode("acct", account)})
    if starts and found.first() is not None:
        raise DelegationCycle
