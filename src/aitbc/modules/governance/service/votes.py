"""Votes: direct, or signed off-line and brought by anybody; one of each account on each proposal."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.crypto.signing import canonical, verify
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.governance.api import ProposalNotFound
from aitbc.modules.governance.batched import Cast, lock_proposal, read_power, take_back, use_nonce, write_vote
from aitbc.modules.governance.models.ballots import Choice
from aitbc.modules.governance.models.life import ProposalState, Rules, extended_end, quorum_of
from aitbc.modules.governance.models.tables import VoterKeyRow, VoteRow
from aitbc.modules.governance.models.views import GovernanceVote, vote_view
from aitbc.modules.governance.service.refusals import (
    AlreadyVoted,
    NoPower,
    VoteNotSigned,
    VoteReplayed,
    VoterKeyNotFound,
    VoterKeyTaken,
    VotingClosed,
)

STATEMENT = "aitbc.vote.v1"


class Ballot(Struct, frozen=True, kw_only=True):
    """A vote, as a voter says it."""

    choice: Choice
    reason: str = ""


class Voter(Struct, frozen=True):
    """Who votes, and with which key."""

    account: str
    key: str


class SignedBallot(Struct, frozen=True, kw_only=True):
    """A vote that was signed off-line."""

    account: str
    ballot: Ballot
    nonce: int
    public_key: str
    signature: str

    def statement(self, proposal: str) -> bytes:
        """What is signed: the canonical JSON of all that is said."""
        return canonical(
            {
                "account": self.account,
                "choice": msgspec.to_builtins(self.ballot.choice),
                "nonce": self.nonce,
                "proposal": proposal,
                "reason": self.ballot.reason,
                "statement": STATEMENT,
            }
        )


class GovernanceVoterKey(Struct, frozen=True, kw_only=True):
    """A public key by which an account signs votes off-line."""

    public_key: str
    """The Ed25519 key. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    account: str
    """Whose votes it signs. For example `acct_01k0000000000000000000000a`."""
    last_nonce: int
    """The highest number that it has signed a vote with; the next must be higher. For example `3`."""
    created_at: datetime
    """When it was added."""
    revoked_at: datetime | None
    """When it was taken back; null while it was not."""


class Votes:
    """Takes and shows votes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def cast(self, who: Principal, proposal: str, ballot: Ballot) -> GovernanceVote:
        """Vote with the power that the caller had when voting started; the same vote again changes nothing.

        Raises `ProposalNotFound`, `VotingClosed`, `AlreadyVoted`, `NoPower`, and `Invalid` for a choice that is none.
        """
        await self._cast(who.account, who.key, proposal, ballot, None)
        return await self.one(proposal, who.account)

    async def cast_signed(self, proposal: str, signed: SignedBallot) -> GovernanceVote:
        """Take a vote that its voter signed off-line, whoever brings it.

        Raises `VoterKeyNotFound`, `VoteNotSigned`, `VoteReplayed`, and what `cast` raises.
        """
        async with self._db.reading() as session:
            key = await session.get(VoterKeyRow, signed.public_key)
        if key is None or key.revoked_at is not None or key.account != signed.account:
            raise VoterKeyNotFound
        if not verify(signed.public_key, signed.statement(proposal), signed.signature):
            raise VoteNotSigned
        await self._cast(signed.account, signed.public_key, proposal, signed.ballot, signed)
        return await self.one(proposal, signed.account)

    @retrying
    async def _cast(self, voter: str, key: str, proposal: str, ballot: Ballot, signed: SignedBallot | None) -> None:
        if not ids.is_id("prop", proposal):
            raise ProposalNotFound
        async with self._db.raw_transaction() as connection:
            await _cast(connection, Voter(voter, key), ids.decode("prop", proposal), ballot, signed)

    async def one(self, proposal: str, voter: str) -> GovernanceVote:
        """The vote of an account."""
        async with self._db.reading() as session:
            return vote_view(await session.get_one(VoteRow, (proposal, voter)))

    async def page(self, proposal: str, *, limit: int, after: str | None) -> Sequence[GovernanceVote]:
        """The votes on a proposal, in the order of accounts. Raises `ProposalNotFound`."""
        if not ids.is_id("prop", proposal):
            raise ProposalNotFound
        wanted = select(VoteRow).where(VoteRow.proposal == proposal)
        if after is not None:
            wanted = wanted.where(VoteRow.voter > after)
        async with self._db.reading() as session:
            return [vote_view(row) for row in await session.scalars(wanted.order_by(VoteRow.voter).limit(limit))]

    @retrying
    async def add_key(self, who: Principal, public_key: str) -> GovernanceVoterKey:
        """Let a key sign votes for the caller's account; twice changes nothing. Raises `VoterKeyTaken`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get(VoterKeyRow, public_key)
            if row is None:
                named = {"last_nonce": 0, "created_at": now(), "revoked_at": None}
                row = VoterKeyRow(public_key=public_key, account=who.account, **named)
                uow.add(row)
                await uow.audit(who.account, who.key, "voter_key.add", public_key)
            elif row.account != who.account or row.revoked_at is not None:
                raise VoterKeyTaken
            return _key_view(row)

    @retrying
    async def revoke_key(self, who: Principal, public_key: str) -> GovernanceVoterKey:
        """Let a key of the caller's sign votes no more. Raises `VoterKeyNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VoterKeyRow, public_key, lock=True, missing=VoterKeyNotFound)
            if row.account != who.account:
                raise VoterKeyNotFound
            if row.revoked_at is None:
                row.revoked_at = now()
                await uow.audit(who.account, who.key, "voter_key.revoke", public_key)
            return _key_view(row)

    async def keys(self, who: Principal, *, limit: int, after: str | None) -> Sequence[GovernanceVoterKey]:
        """The keys of the caller's account."""
        wanted = select(VoterKeyRow).where(VoterKeyRow.account == who.account)
        if after is not None:
            wanted = wanted.where(VoterKeyRow.public_key > after)
        async with self._db.reading() as session:
            rows = await session.scalars(wanted.order_by(VoterKeyRow.public_key).limit(limit))
            return [_key_view(row) for row in rows]


async def _cast(
    connection: Connection, voter: Voter, proposal: UUID, ballot: Ballot, signed: SignedBallot | None
) -> None:
    account = ids.decode("acct", voter.account)
    row = await lock_proposal(connection, proposal)
    if row is None or row["state"] == ProposalState.DRAFT:
        raise ProposalNotFound
    at = now()
    if row["snapshot"] is None:
        raise VotingClosed
    power = await read_power(connection, row["id"], account, row["snapshot"])
    if power.voted is not None:
        if power.voted == msgspec.json.encode(ballot.choice).decode() and signed is None:
            return
        raise AlreadyVoted
    if row["state"] != ProposalState.ACTIVE or at >= row["voting_ends"]:
        raise VotingClosed
    ballot.choice.check(row["ballot"], row["options"])
    if power.own + power.received == 0:
        raise NoPower
    if signed is not None and not await use_nonce(connection, signed.public_key, signed.nonce):
        raise VoteReplayed
    taken: dict[str, int] = {}
    if power.delegates and power.own:
        taken = await take_back(connection, row["id"], account, row["snapshot"], power.own)
    units = power.own + power.received
    before, after = row["cast_units"], row["cast_units"] + units - sum(taken.values())
    rules = Rules(
        quorum_units=row["quorum_units"], quorum_basis_points=row["quorum_basis_points"], threshold_basis_points=1
    )
    quorum = quorum_of(rules, row["total_units"])
    ends, extended = row["voting_ends"], row["extended"]
    if before < quorum <= after and not extended:
        later = extended_end(ends, at, timedelta(seconds=row["late_seconds"]))
        ends, extended = later, later > ends
    cast = Cast(
        proposal=row["id"],
        voter=account,
        key=voter.key,
        choice=ballot.choice,
        units=units,
        own_units=power.own,
        reason=ballot.reason,
        nonce=None if signed is None else signed.nonce,
        at=at,
        voting_ends=ends,
        extended=extended,
    )
    await write_vote(connection, cast, taken)


def _key_view(row: VoterKeyRow) -> GovernanceVoterKey:
    return GovernanceVoterKey(**{name: getattr(row, name) for name in GovernanceVoterKey.__struct_fields__})
