"""Votes, by statements on a raw connection: four round trips whatever the proposal's size.

A vote locks its proposal, so the tallies are the sum of the stored votes at all times. By hand: each is about one vote.
"""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.governance.models.ballots import Choice

LOCK_PROPOSAL = """
SELECT id, state, class_, ballot, jsonb_array_length(options) AS options, voting_ends, extended, late_seconds, snapshot,
    total_units, quorum_units, quorum_basis_points, cast_units
FROM governance.proposals WHERE id = $1 FOR NO KEY UPDATE"""

# What an account had at the snapshot: its own stake, what was delegated to it by those who have not voted themselves, and
# whether it delegated some of its own. Its vote, where it has one.
READ_POWER = """
SELECT
    coalesce((SELECT units FROM governance.power_points WHERE account = $2 AND number <= $3
        ORDER BY number DESC LIMIT 1), 0) AS own,
    coalesce((SELECT sum(div(p.units::numeric * d.basis_points, 10000))
        FROM governance.delegations d CROSS JOIN LATERAL (SELECT units FROM governance.power_points
            WHERE account = d.delegator AND number <= $3 ORDER BY number DESC LIMIT 1) p
        WHERE d.delegatee = $2 AND d.since <= $3 AND (d.until IS NULL OR d.until > $3)
        AND NOT EXISTS (SELECT FROM governance.votes v WHERE v.proposal = $1 AND v.voter = d.delegator)), 0)::bigint
        AS received,
    EXISTS (SELECT FROM governance.delegations d
        WHERE d.delegator = $2 AND d.since <= $3 AND (d.until IS NULL OR d.until > $3)) AS delegates,
    (SELECT choice FROM governance.votes WHERE proposal = $1 AND voter = $2) AS voted"""

# A direct vote takes its shares back from those who voted with them.
TAKE_BACK = """
UPDATE governance.votes v SET units = v.units - div($4::numeric * d.basis_points, 10000)::bigint
FROM governance.delegations d
WHERE v.proposal = $1 AND v.voter = d.delegatee AND d.delegator = $2 AND d.since <= $3
    AND (d.until IS NULL OR d.until > $3)
RETURNING v.choice, div($4::numeric * d.basis_points, 10000)::bigint AS units"""

WRITE_VOTE = """
WITH vote AS (
    INSERT INTO governance.votes (proposal, voter, choice, units, own_units, reason, nonce, cast_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)),
trail AS (
    INSERT INTO governance.audit (at, account, key, action, object, details, request_id)
    VALUES ($8, $15, $16, 'vote.cast', $17, $18, $19))
UPDATE governance.proposals SET for_units = for_units + $9, against_units = against_units + $10,
    abstain_units = abstain_units + $11, cast_units = cast_units + $12, voters = voters + 1,
    voting_ends = $13, due_at = $13, extended = $14
WHERE id = $1 RETURNING cast_units"""

USE_NONCE = """
UPDATE governance.voter_keys SET last_nonce = $2
WHERE public_key = $1 AND last_nonce < $2 AND revoked_at IS NULL RETURNING account"""

DECODE = msgspec.json.Decoder(Choice)


class Power(Struct, frozen=True):
    """What an account may vote with on a proposal."""

    own: int
    received: int
    delegates: bool
    voted: str | None


class Cast(Struct, frozen=True, kw_only=True):
    """A vote as it is written, with what it changes about its proposal."""

    proposal: UUID
    voter: UUID
    key: str
    """The API key that it came with, or the public key that signed it."""
    choice: Choice
    units: int
    own_units: int
    reason: str
    nonce: int | None
    at: datetime
    voting_ends: datetime
    extended: bool


async def lock_proposal(connection: Connection, proposal: UUID) -> asyncpg.Record | None:
    """The proposal, locked until the transaction ends."""
    return await connection.fetchrow(LOCK_PROPOSAL, proposal)


async def read_power(connection: Connection, proposal: UUID, voter: UUID, snapshot: int) -> Power:
    """What an account may vote with; read after the proposal was locked."""
    row = await connection.fetchrow(READ_POWER, proposal, voter, snapshot)
    assert row is not None
    return Power(row["own"], row["received"], row["delegates"], row["voted"])


async def take_back(connection: Connection, proposal: UUID, voter: UUID, snapshot: int, own: int) -> dict[str, int]:
    """Take an account's shares back from its delegatees' votes; returns how much by basic choice, `""` for others."""
    taken: dict[str, int] = {}
    for row in await connection.fetch(TAKE_BACK, proposal, voter, snapshot, own):
        choice = DECODE.decode(row["choice"]).choice or ""
        taken[choice] = taken.get(choice, 0) + row["units"]
    return taken


async def write_vote(connection: Connection, cast: Cast, taken: dict[str, int]) -> int:
    """Write a vote and bring the tallies up to it; returns all power that voted."""
    added = dict.fromkeys(("for", "against", "abstain"), 0)
    if cast.choice.choice is not None:
        added[cast.choice.choice] = cast.units
    for choice, units in taken.items():
        if choice in added:
            added[choice] -= units
    cast_units = await connection.fetchval(
        WRITE_VOTE,
        cast.proposal,
        cast.voter,
        msgspec.json.encode(cast.choice).decode(),
        cast.units,
        cast.own_units,
        cast.reason,
        cast.nonce,
        cast.at,
        added["for"],
        added["against"],
        added["abstain"],
        cast.units - sum(taken.values()),
        cast.voting_ends,
        cast.extended,
        ids.encode("acct", cast.voter),
        cast.key,
        ids.encode("prop", cast.proposal),
        msgspec.json.encode({"units": cast.units, "own_units": cast.own_units}).decode(),
        current_request_id(),
    )
    return int(cast_units)


async def use_nonce(connection: Connection, public_key: str, nonce: int) -> bool:
    """Use a number of a key once; false where it or a later one was used, or the key was revoked."""
    return await connection.fetchval(USE_NONCE, public_key, nonce) is not None
