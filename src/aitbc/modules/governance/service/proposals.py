"""Proposals: made, supported, taken back and shown."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from sqlalchemy import func, select, text

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.governance.api import GovernanceProposal, ProposalNotFound
from aitbc.modules.governance.models.actions import Content, id_of
from aitbc.modules.governance.models.life import POLICIES, ProposalState
from aitbc.modules.governance.models.tables import MoveRow, ProposalRow, SponsorRow, StakeRow
from aitbc.modules.governance.models.views import proposal_view
from aitbc.modules.governance.service.checks import Checks
from aitbc.modules.governance.service.moves import Moves, new_move
from aitbc.modules.governance.service.refusals import (
    NoStake,
    NotTheProposer,
    ProposalExists,
    ProposalMoved,
    TooManySponsors,
)
from aitbc.modules.governance.service.settings import Rulebook
from aitbc.modules.governance.service.steps import deposit_goes_back, step
from aitbc.modules.trading.api import InsufficientFunds

S = ProposalState
SPONSORS_MAX = 100
ANSWERED = text("SELECT 1 FROM governance.answers WHERE account = :account AND key = :key AND body IS NOT NULL")


class Times(Struct, frozen=True, kw_only=True):
    """When voting is to start and end, where the proposer says so; not sooner and not shorter than the rules."""

    voting_starts: datetime | None = None
    voting_ends: datetime | None = None
    at_least: bool = False
    """Whether times that the rules do not allow are moved to the next that they do; else they are refused."""


class ProposalFilter(Struct, frozen=True, kw_only=True):
    """Which proposals of a list are wanted, from the newest on."""

    state: str | None = None
    class_: str | None = None
    proposer: str | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


class ProposalId(Struct, frozen=True):
    """The answer that a proposal is remembered by."""

    id: str


class Proposals:
    """Makes and shows proposals."""

    def __init__(self, db: Database, moves: Moves, rules: Rulebook, checks: Checks) -> None:
        self._db = db
        self._moves = moves
        self._rules = rules
        self._checks = checks

    async def propose(
        self, who: Principal, content: Content, once: IdempotencyKey, times: Times | None = None
    ) -> GovernanceProposal:
        """Make a proposal: its deposit is taken, and then everybody sees it.

        A repetition goes on where the first was interrupted. Raises `NoStake`, `ProposalExists`, `InsufficientFunds`,
        `Invalid`, and what the checks of its actions raise.
        """
        if not await self._answered(once):  # what is repeated was checked, and what it may spend may be its own
            await self._checks.require(content.class_, content.actions)
        proposal, deposit = await self._write(who, content, times or Times(), once)
        if deposit is not None and await self._moves.run(deposit) == "refused":
            raise InsufficientFunds
        return await self.one(proposal)

    async def _answered(self, once: IdempotencyKey) -> bool:
        async with self._db.reading() as session:
            named = {"account": once.account, "key": once.key}
            return (await session.execute(ANSWERED, named)).first() is not None

    @retrying
    async def _write(
        self, who: Principal, content: Content, times: Times, once: IdempotencyKey
    ) -> tuple[str, str | None]:
        """The proposal, and its deposit where it needs one. Raises `NoStake`, `ProposalExists`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ProposalId)) is not None:
                return earlier.id, await _deposit_of(uow, earlier.id)
            stake = await uow.session.get(StakeRow, who.account)
            if stake is None or stake.locked_units == 0:
                raise NoStake
            digest = content.digest()
            if await uow.session.get(ProposalRow, id_of(digest)) is not None:
                raise ProposalExists
            row = self._row(content, digest, times)
            uow.add(row)
            uow.add(SponsorRow(proposal=row.id, account=who.account, sponsored_at=row.created_at))
            await uow.session.flush()
            deposit = self._deposit(uow, row)
            await uow.audit(who.account, who.key, "proposal.make", row.id, digest=digest)
            await uow.answer(once, ProposalId(row.id))
            return row.id, deposit

    def _deposit(self, uow: UnitOfWork, row: ProposalRow) -> str | None:
        if row.deposit_units == 0:
            step(uow, row, S.PENDING)
            return None
        owner = row.proposer
        move = new_move(
            "deposit",
            f"{owner}/main",
            f"{owner}/deposit",
            row.deposit_units,
            at=row.created_at,
            account=owner,
            proposal=row.id,
            reason=f"deposit {row.digest}",
        )
        uow.add(move)
        return move.id

    def _row(self, content: Content, digest: str, times: Times) -> ProposalRow:
        at, class_, rule = now(), content.class_, self._rules.of
        starts, ends = self._times(class_, at, times)
        return ProposalRow(
            id=id_of(digest),
            digest=digest,
            proposer=content.proposer,
            title=content.title,
            text=content.text,
            class_=class_,
            actions=msgspec.json.encode(content.actions).decode(),
            ballot=content.ballot,
            options=list(content.options),
            state=S.DRAFT,
            created_at=at,
            voting_starts=starts,
            voting_ends=ends,
            extended=False,
            due_at=None,
            needed_units=rule("proposal_power_units"),
            quorum_units=rule("quorum_units", class_),
            quorum_basis_points=rule("quorum_basis_points", class_),
            threshold_basis_points=rule("threshold_basis_points", class_),
            timelock_seconds=rule("timelock_seconds", class_),
            late_seconds=rule("late_seconds"),
            execution_seconds=rule("execution_seconds"),
            for_units=0,
            against_units=0,
            abstain_units=0,
            cast_units=0,
            voters=0,
            deposit_units=rule("deposit_units"),
            deposit_policy=POLICIES[rule("deposit_policy")],
        )

    def _times(self, class_: str, at: datetime, times: Times) -> tuple[datetime, datetime]:
        """When voting starts and ends: as asked, where the rules allow that. Raises `Invalid`."""
        earliest = at + timedelta(seconds=self._rules.of("delay_seconds", class_))
        lasts = timedelta(seconds=self._rules.of("voting_seconds", class_))
        starts = times.voting_starts or earliest
        if times.at_least:
            starts = max(starts, earliest)
        ends = times.voting_ends or starts + lasts
        if times.at_least:
            ends = max(ends, starts + lasts)
        latest = earliest + timedelta(days=90)
        if not earliest <= starts <= latest:
            raise Invalid(fields=(FieldError("/voting_starts", f"Expected a time from {earliest.isoformat()} on"),))
        if not starts + lasts <= ends <= starts + max(lasts, timedelta(days=90)):
            raise Invalid(
                fields=(FieldError("/voting_ends", f"Expected a time from {(starts + lasts).isoformat()} on"),)
            )
        return starts, ends

    @retrying
    async def sponsor(self, who: Principal, proposal: str) -> GovernanceProposal:
        """Support a proposal with the caller's own power before voting starts; doing it again changes nothing.

        Raises `ProposalNotFound`, `ProposalMoved`, `NoStake`, `TooManySponsors`.
        """
        async with self._db.unit_of_work() as uow:
            row = await found(uow, proposal)
            if await uow.session.get(SponsorRow, (row.id, who.account)) is None:
                if row.state != S.PENDING:
                    raise ProposalMoved
                if await uow.session.get(StakeRow, who.account) is None:
                    raise NoStake
                counted = select(func.count()).select_from(SponsorRow).where(SponsorRow.proposal == row.id)
                if (await uow.session.scalar(counted) or 0) >= SPONSORS_MAX:
                    raise TooManySponsors
                uow.add(SponsorRow(proposal=row.id, account=who.account, sponsored_at=now()))
                await uow.audit(who.account, who.key, "proposal.sponsor", row.id)
            return proposal_view(row)

    @retrying
    async def cancel(self, who: Principal, proposal: str, reason: str) -> GovernanceProposal:
        """Take a proposal of the caller's back before voting ends; doing it again changes nothing.

        Raises `ProposalNotFound`, `NotTheProposer`, `ProposalMoved`.
        """
        async with self._db.unit_of_work() as uow:
            row = await found(uow, proposal)
            if row.proposer != who.account:
                raise NotTheProposer
            if row.state == S.ACTIVE and now() >= row.voting_ends:
                raise ProposalMoved
            if row.state != S.CANCELLED:
                step(uow, row, S.CANCELLED)
                row.reason = reason or None
                release_deposit(uow, row)
                await uow.audit(who.account, who.key, "proposal.cancel", row.id, reason=reason)
            return proposal_view(row)

    @retrying
    async def veto(self, who: Principal, proposal: str, reason: str) -> GovernanceProposal:
        """Stop a proposal before its execution begins: for guardians; doing it again changes nothing.

        Its deposit goes to the treasury. Raises `ProposalNotFound`, `ProposalMoved`.
        """
        async with self._db.unit_of_work() as uow:
            row = await found(uow, proposal)
            if row.state != S.VETOED:
                if row.execution_started_at is not None:
                    raise ProposalMoved("The execution of this proposal has begun.")
                has_deposit = row.decided_at is None
                step(uow, row, S.VETOED)
                row.reason = reason or None
                if has_deposit:
                    release_deposit(uow, row)
                await uow.audit(who.account, who.key, "proposal.veto", row.id, reason=reason)
            return proposal_view(row)

    async def one(self, proposal: str) -> GovernanceProposal:
        """A proposal. Raises `ProposalNotFound`."""
        return proposal_view(await self.row(proposal))

    async def row(self, proposal: str) -> ProposalRow:
        """The row of a proposal. Raises `ProposalNotFound`."""
        if not ids.is_id("prop", proposal):
            raise ProposalNotFound
        async with self._db.reading() as session:
            row = await session.get(ProposalRow, proposal)
        if row is None or row.state == S.DRAFT:
            raise ProposalNotFound
        return row

    async def page(self, filters: ProposalFilter) -> Sequence[GovernanceProposal]:
        """Proposals, newest first."""
        wanted = select(ProposalRow).where(ProposalRow.state != S.DRAFT)
        if filters.state is not None:
            wanted = wanted.where(ProposalRow.state == filters.state)
        if filters.class_ is not None:
            wanted = wanted.where(ProposalRow.class_ == filters.class_)
        if filters.proposer is not None:
            wanted = wanted.where(ProposalRow.proposer == filters.proposer)
        if filters.before is not None:
            at, id_ = filters.before
            before = (ProposalRow.created_at < at) | (ProposalRow.created_at == at) & (ProposalRow.id < id_)
            wanted = wanted.where(before)
        newest = wanted.order_by(ProposalRow.created_at.desc(), ProposalRow.id.desc()).limit(filters.limit)
        async with self._db.reading() as session:
            return [proposal_view(row) for row in await session.scalars(newest)]


async def found(uow: UnitOfWork, proposal: str) -> ProposalRow:
    """A proposal that everybody sees, locked. Raises `ProposalNotFound`."""
    row = await uow.find(ProposalRow, proposal, lock=True, missing=ProposalNotFound)
    if row.state == S.DRAFT:
        raise ProposalNotFound
    return row


def release_deposit(uow: UnitOfWork, row: ProposalRow) -> None:
    """Let the deposit of a proposal go back to its proposer, or to the treasury, as its policy says of this end."""
    if row.deposit_units == 0:
        return
    back = deposit_goes_back(row)
    source, target = f"{row.proposer}/deposit", f"{row.proposer}/main" if back else "system/treasury"
    purpose = "refund" if back else "forfeit"
    reason = f"{row.state}: {row.for_units} for, {row.against_units} against, {row.abstain_units} abstained"
    move = new_move(
        purpose, source, target, row.deposit_units, at=now(), account=row.proposer, proposal=row.id, reason=reason
    )
    uow.add(move)


async def _deposit_of(uow: UnitOfWork, proposal: str) -> str | None:
    wanted = select(MoveRow.id).where(MoveRow.proposal == proposal, MoveRow.purpose == "deposit")
    return (await uow.session.execute(wanted.order_by(MoveRow.id.desc()).limit(1))).scalar_one_or_none()
