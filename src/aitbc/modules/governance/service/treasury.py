"""The treasury: an account of the ledger, budget lines that say what may be paid, and what it got and paid."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import checked, parse, render, share, split
from aitbc.modules.governance.models.actions import Action, Pay, SetBudget, StopPayments
from aitbc.modules.governance.models.tables import ApprovalRow, BudgetLineRow, MoveRow, TreasuryRow
from aitbc.modules.governance.models.views import GovernanceMove, move_view
from aitbc.modules.governance.service.moves import FEES, TREASURY, Moves, new_move
from aitbc.modules.governance.service.refusals import (
    BudgetLineExceeded,
    BudgetLineNotFound,
    MilestoneNotFound,
    StakeRefused,
    TreasuryTooSmall,
)
from aitbc.modules.governance.service.settings import Rulebook
from aitbc.modules.governance.service.stakes import MoveId
from aitbc.modules.trading.api import InsufficientFunds, TradingApi

APPROVALS = 2
"""How many of those who may execute must approve a milestone."""
LINES_SHOWN = 200


class Room(Struct, frozen=True):
    """What the treasury has, as of a number of payments."""

    balance_units: int
    version: int


class GovernanceBudgetLine(Struct, frozen=True, kw_only=True):
    """How much the treasury may pay for one purpose in all."""

    line: str
    """The line. For example `grants`."""
    limit: str
    """All that it may ever pay, in AITBC. For example `5000`."""
    paid: str
    """What it has paid. For example `100`."""
    promised: str
    """What executed proposals are still to be paid from it. For example `200`."""
    left: str
    """What proposals may still spend. For example `4700`."""


class GovernanceTreasury(Struct, frozen=True, kw_only=True):
    """What the treasury has, and for what."""

    account: str
    """Its account in the ledger. For example `system/treasury`."""
    balance: str
    """What lies there, in AITBC. For example `6000`."""
    promised: str
    """What executed proposals are still to be paid. For example `200`."""
    available: str
    """What is not promised. For example `5800`."""
    fee_share_basis_points: int
    """Its share of the fees, in 1/10 000. For example `1000`."""
    lines: tuple[GovernanceBudgetLine, ...]
    """Its budget lines. For example `[]`."""


class GovernanceReport(Struct, frozen=True, kw_only=True):
    """What the treasury got and paid in a period, added up from what the ledger moved: asked again, it is the same."""

    since: datetime
    """From when on, this moment included."""
    until: datetime
    """Until when, this moment not included."""
    received: dict[str, str]
    """By purpose (`fees`, `forfeit`, `gift`), in AITBC. For example `{"fees": "12.5"}`."""
    paid: dict[str, str]
    """By budget line, in AITBC. For example `{"grants": "100"}`."""
    total_received: str
    """All that came in. For example `12.5`."""
    total_paid: str
    """All that was paid. For example `100`."""
    movements: int
    """How many transactions of the ledger these are. For example `3`."""


class Treasury:
    """Fills the treasury, and spends what proposals decide."""

    def __init__(self, db: Database, moves: Moves, trading: TradingApi, rules: Rulebook) -> None:
        self._db = db
        self._moves = moves
        self._trading = trading
        self._rules = rules

    async def room(self) -> Room:
        """What lies in the treasury, read before a transaction: `spend` refuses it where a payment came between."""
        async with self._db.reading() as session:
            version = (await session.get_one(TreasuryRow, 1)).version
        return Room((await self._trading.ledger_account(TREASURY)).balance_units, version)

    async def spend(self, uow: UnitOfWork, proposal: str, actions: Sequence[Action], room: Room, at: datetime) -> None:
        """Let the payments of a proposal take effect in the transaction that executes it.

        Raises `BudgetLineExceeded`, `BudgetLineNotFound`, `TreasuryTooSmall`.
        """
        if not any(isinstance(action, (SetBudget, Pay, StopPayments)) for action in actions):
            return
        treasury = await uow.session.get_one(
            TreasuryRow, 1, with_for_update={"key_share": True}, populate_existing=True
        )
        if treasury.version != room.version:
            raise TreasuryTooSmall("The treasury paid something meanwhile; try again.")
        part = 0
        for action in actions:
            if isinstance(action, SetBudget):
                await _set_line(uow, action, at)
            elif isinstance(action, StopPayments):
                await _stop(uow, treasury, action.proposal, at)
            elif isinstance(action, Pay):
                units = parse(action.amount)
                await _promise(uow, action.line, units, at)
                treasury.promised_units += units
                if treasury.promised_units > room.balance_units:
                    raise TreasuryTooSmall
                for move in _payments(action, proposal, part, at):
                    uow.add(move)
                    part += 1

    async def give(self, who: Principal, units: int, once: IdempotencyKey) -> GovernanceMove:
        """Give money of the caller's to the treasury. Raises `InsufficientFunds`, `StakeRefused` as `Stakes.lock`."""
        move, fresh = await self._write_gift(who, checked(units), once)
        if await self._moves.run(move) == "refused":
            raise InsufficientFunds if fresh else StakeRefused
        async with self._db.reading() as session:
            return move_view(await session.get_one(MoveRow, move))

    @retrying
    async def _write_gift(self, who: Principal, units: int, once: IdempotencyKey) -> tuple[str, bool]:
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MoveId)) is not None:
                return earlier.id, False
            row = new_move("gift", f"{who.account}/main", TREASURY, units, at=now(), account=who.account)
            uow.add(row)
            await uow.audit(who.account, who.key, "treasury.give", row.id, amount=render(units))
            await uow.answer(once, MoveId(row.id))
            return row.id, True

    async def fund(self) -> None:
        """Move the treasury's share of the fees that were earned since the last time.

        A correction takes fees back: nothing moves until as much was earned again.
        """
        earned = (await self._trading.ledger_account(FEES)).earned_units
        await self._fund(earned)

    @retrying
    async def _fund(self, earned: int) -> None:
        async with self._db.unit_of_work() as uow:
            treasury = await uow.session.get_one(TreasuryRow, 1, with_for_update={"key_share": True})
            fresh = earned - treasury.fees_seen_units
            if fresh <= 0:
                return
            units = share(fresh, self._rules.of("fee_share_basis_points"))
            treasury.fees_seen_units = earned
            if units > 0:
                uow.add(new_move("fees", FEES, TREASURY, units, at=now()))

    @retrying
    async def approve(self, who: Principal, move: str) -> GovernanceMove:
        """Approve a milestone: with the second approval, of another account, it is due. Twice changes nothing.

        Raises `MilestoneNotFound`.
        """
        async with self._db.unit_of_work() as uow:
            row = await uow.find(MoveRow, move, lock=True, missing=MilestoneNotFound)
            if row.purpose != "payment" or not row.title or row.state == "stopped":
                raise MilestoneNotFound
            if await uow.session.get(ApprovalRow, (row.id, who.account)) is None:
                uow.add(ApprovalRow(move=row.id, account=who.account, approved_at=now()))
                await uow.audit(who.account, who.key, "treasury.approve", row.proposal or row.id, milestone=row.title)
                await uow.session.flush()
            counted = select(func.count()).select_from(ApprovalRow).where(ApprovalRow.move == row.id)
            if row.state == "waiting" and (await uow.session.scalar(counted) or 0) >= APPROVALS:
                row.state, row.due_at = "due", now()
            return move_view(row)

    async def view(self) -> GovernanceTreasury:
        """What the treasury has, and for what."""
        balance = (await self._trading.ledger_account(TREASURY)).balance_units
        async with self._db.reading() as session:
            promised = (await session.get_one(TreasuryRow, 1)).promised_units
            lines = await session.scalars(select(BudgetLineRow).order_by(BudgetLineRow.line).limit(LINES_SHOWN))
            shown = tuple(_line_view(row) for row in lines)
        return GovernanceTreasury(
            account=TREASURY,
            balance=render(balance),
            promised=render(promised),
            available=render(balance - promised),
            fee_share_basis_points=self._rules.of("fee_share_basis_points"),
            lines=shown,
        )

    async def payments(self, *, proposal: str | None, limit: int, after: str | None) -> Sequence[GovernanceMove]:
        """What the treasury gets and pays, newest first, of one proposal or all."""
        wanted = select(MoveRow).where(MoveRow.of_treasury)
        if proposal is not None:
            wanted = wanted.where(MoveRow.proposal == (proposal if ids.is_id("prop", proposal) else f"prop_{'0' * 26}"))
        if after is not None:
            wanted = wanted.where(MoveRow.id < after)
        async with self._db.reading() as session:
            return [move_view(row) for row in await session.scalars(wanted.order_by(MoveRow.id.desc()).limit(limit))]

    async def report(self, since: datetime, until: datetime) -> GovernanceReport:
        """What came in and went out in a period."""
        summed = select(MoveRow.purpose, MoveRow.line, total(MoveRow.amount_units), func.count()).where(
            MoveRow.of_treasury, MoveRow.state == "done", MoveRow.done_at >= since, MoveRow.done_at < until
        )
        async with self._db.reading() as session:
            rows = (await session.execute(summed.group_by(MoveRow.purpose, MoveRow.line))).all()
        received = {purpose: int(units) for purpose, _, units, _ in rows if purpose != "payment"}
        paid = {str(line): int(units) for purpose, line, units, _ in rows if purpose == "payment"}
        return GovernanceReport(
            since=since,
            until=until,
            received={purpose: render(units) for purpose, units in sorted(received.items())},
            paid={line: render(units) for line, units in sorted(paid.items())},
            total_received=render(sum(received.values())),
            total_paid=render(sum(paid.values())),
            movements=sum(number for *_, number in rows),
        )


def _payments(action: Pay, proposal: str, first: int, at: datetime) -> list[MoveRow]:
    """What a payment moves, when; milestones wait."""
    if action.milestones:
        parts = [(parse(one.amount), at, one.title) for one in action.milestones]
    else:
        amounts = split(parse(action.amount), [1] * action.parts)
        every = timedelta(seconds=action.every_seconds)
        parts = [(units, at + number * every, "") for number, units in enumerate(amounts)]
    return [
        new_move(
            "payment",
            TREASURY,
            f"{action.to}/main",
            units,
            at=at,
            due_at=due,
            account=action.to,
            proposal=proposal,
            line=action.line,
            part=first + number,
            title=title,
            reason=f"payment {action.line}",
        )
        for number, (units, due, title) in enumerate(parts)
    ]


async def _set_line(uow: UnitOfWork, action: SetBudget, at: datetime) -> None:
    limit = parse(action.limit, zero=True)
    row = await uow.session.get(BudgetLineRow, action.line, with_for_update={"key_share": True})
    if row is None:
        uow.add(BudgetLineRow(line=action.line, limit_units=limit, paid_units=0, promised_units=0, changed_at=at))
        await uow.session.flush()
    elif limit < row.paid_units + row.promised_units:
        raise BudgetLineExceeded(f"The budget line {action.line} has paid or promised more than that.")
    else:
        row.limit_units, row.changed_at = limit, at


async def _promise(uow: UnitOfWork, line: str, units: int, at: datetime) -> None:
    row = await uow.session.get(BudgetLineRow, line, with_for_update={"key_share": True})
    if row is None:
        raise BudgetLineNotFound
    if row.paid_units + row.promised_units + units > row.limit_units:
        raise BudgetLineExceeded(f"The budget line {line} does not cover this.")
    row.promised_units += units
    row.changed_at = at


async def _stop(uow: UnitOfWork, treasury: TreasuryRow, proposal: str, at: datetime) -> None:
    """Stop what an executed proposal has not paid; what is due this moment is paid."""
    if not ids.is_id("prop", proposal):
        return
    unpaid = select(MoveRow).where(
        MoveRow.proposal == proposal,
        MoveRow.purpose == "payment",
        (MoveRow.state == "waiting") | (MoveRow.state == "due") & (MoveRow.due_at > at),
    )
    for move in (await uow.session.scalars(unpaid.order_by(MoveRow.id).with_for_update(key_share=True))).all():
        move.state = "stopped"
        line = await uow.session.get_one(BudgetLineRow, move.line, with_for_update={"key_share": True})
        line.promised_units -= move.amount_units
        line.changed_at = at
        treasury.promised_units -= move.amount_units


def _line_view(row: BudgetLineRow) -> GovernanceBudgetLine:
    left = row.limit_units - row.paid_units - row.promised_units
    return GovernanceBudgetLine(
        line=row.line,
        limit=render(row.limit_units),
        paid=render(row.paid_units),
        promised=render(row.promised_units),
        left=render(left),
    )
