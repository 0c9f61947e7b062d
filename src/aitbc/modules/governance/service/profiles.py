"""Profiles, as the older governance kept them: a name for an account, and figures that follow what it did."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.modules.governance.models.life import ProposalState
from aitbc.modules.governance.models.tables import ProfileRow, ProposalRow, VoteRow
from aitbc.modules.governance.service.power import delegations_of, staked_accounts, stakes_of

S = ProposalState
PASSED = (S.SUCCEEDED, S.QUEUED, S.EXECUTED, S.EXECUTION_FAILED)
SHOWN_MAX = 500


class GovernanceProfileNotFound(NotFound):
    """There is no such governance profile."""

    code = "governance_profile_not_found"


class GovernanceProfileTaken(Conflict):
    """Another account has a governance profile for this user."""

    code = "governance_profile_taken"


class Figures(Struct, frozen=True, kw_only=True):
    """What an account has and did."""

    account: str
    user: str
    joined_at: datetime
    own_units: int
    received_units: int
    delegatee: str | None
    votes: int
    voted_at: datetime | None
    proposals: int
    passed: int


class Activity(Struct, frozen=True, kw_only=True):
    """What happened in a period."""

    proposals: int
    active: int
    passed: int
    votes: int
    voters: int
    cast_units: int


class Profiles:
    """Keeps names of accounts, and adds up what they did."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def make(self, who: Principal, user: str) -> str:
        """Name the caller's account; again, the name that it has stays. Raises `GovernanceProfileTaken`."""
        async with self._db.unit_of_work() as uow:
            taken = await uow.session.scalar(select(ProfileRow.account).where(ProfileRow.user == user))
            if taken is not None and taken != who.account:
                raise GovernanceProfileTaken
            if await uow.session.get(ProfileRow, who.account) is None:
                uow.add(ProfileRow(account=who.account, user=user, joined_at=now()))
                await uow.audit(who.account, who.key, "governance_profile.make", who.account, user=user)
        return who.account

    async def find(self, *, account: str | None = None, user: str | None = None) -> Sequence[Figures]:
        """The profiles of an account, of a user, or the first 500."""
        wanted = select(ProfileRow).order_by(ProfileRow.account).limit(SHOWN_MAX)
        if account is not None:
            wanted = wanted.where(ProfileRow.account == account)
        if user is not None:
            wanted = wanted.where(ProfileRow.user == user)
        async with self._db.reading() as session:
            rows = (await session.scalars(wanted)).all()
            accounts = [row.account for row in rows]
            keys = [ids.decode("acct", one) for one in accounts]
            stakes, delegations = await stakes_of(session, accounts), await delegations_of(session, keys)
            voted = select(VoteRow.voter, func.count(), func.max(VoteRow.cast_at)).where(VoteRow.voter.in_(accounts))
            votes = {name: (count, at) for name, count, at in await session.execute(voted.group_by(VoteRow.voter))}
            made = select(ProposalRow.proposer, func.count(), func.count().filter(ProposalRow.state.in_(PASSED))).where(
                ProposalRow.proposer.in_(accounts), ProposalRow.state != S.DRAFT
            )
            proposals = {
                name: (all_, passed) for name, all_, passed in await session.execute(made.group_by("proposer"))
            }
        return [
            Figures(
                account=row.account,
                user=row.user,
                joined_at=row.joined_at,
                own_units=stakes.get(row.account, 0),
                received_units=sum(one.units for one in delegations if one.delegatee == key),
                delegatee=next(
                    (ids.encode("acct", one.delegatee) for one in delegations if one.delegator == key), None
                ),
                votes=votes.get(row.account, (0, None))[0],
                voted_at=votes.get(row.account, (0, None))[1],
                proposals=proposals.get(row.account, (0, 0))[0],
                passed=proposals.get(row.account, (0, 0))[1],
            )
            for row, key in zip(rows, keys, strict=True)
        ]

    async def one(self, account: str) -> Figures:
        """The profile of an account. Raises `GovernanceProfileNotFound`."""
        found = await self.find(account=account) if ids.is_id("acct", account) else ()
        if not found:
            raise GovernanceProfileNotFound
        return found[0]

    async def votes(self, proposal: str | None, voter: str | None) -> Sequence[VoteRow]:
        """The newest votes, of a proposal or an account."""
        wanted = select(VoteRow).order_by(VoteRow.cast_at.desc(), VoteRow.voter).limit(SHOWN_MAX)
        if proposal is not None:
            wanted = wanted.where(VoteRow.proposal == proposal)
        if voter is not None:
            wanted = wanted.where(VoteRow.voter == voter)
        async with self._db.reading() as session:
            return (await session.scalars(wanted)).all()

    async def members(self) -> int:
        """How many accounts have stake."""
        async with self._db.reading() as session:
            return await staked_accounts(session)

    async def activity(self, since: datetime, until: datetime) -> Activity:
        """What was proposed and voted in a period."""
        made = select(
            func.count(),
            func.count().filter(ProposalRow.state == S.ACTIVE),
            func.count().filter(ProposalRow.state.in_(PASSED)),
        ).where(ProposalRow.created_at >= since, ProposalRow.created_at < until, ProposalRow.state != S.DRAFT)
        cast = select(func.count(), func.count(VoteRow.voter.distinct()), total(VoteRow.units))
        async with self._db.reading() as session:
            proposals, active, passed = (await session.execute(made)).one()
            votes, voters, units = (
                await session.execute(cast.where(VoteRow.cast_at >= since, VoteRow.cast_at < until))
            ).one()
        return Activity(
            proposals=proposals, active=active, passed=passed, votes=votes, voters=voters, cast_units=int(units)
        )
