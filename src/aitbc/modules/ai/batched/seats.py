"""Claims while jobs are dealt out: what each may still have, and what one statement read for all of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Claim, Lease
from aitbc.modules.ai.models.asks import NO_ASKS
from aitbc.modules.ai.models.devices import Room
from aitbc.modules.ai.models.queue import Needs, needs_of
from aitbc.modules.ai.models.terms import ANYBODY
from aitbc.modules.ai.models.values import JobValue

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""The inputs that one claim may carry away together."""

OWN_JOBS = -2
"""In place of a number of leases: this owner has jobs of its own that wait."""
UNRECEIVED = -3
"""In place of a number of leases: this one was made for the session of a claim, and its work has not begun."""

# The lanes that have waiting jobs, by jumping from one to the next in the queue's index: as many probes as lanes. In the
# same result stands how many leases each of these miners has, and what it asks: a lane has neither. So do whose jobs
# these owners take, where they say so, and whether any payer says whose miners its jobs go to; and the leases of these
# sessions under which no work has begun.
WAITING_LANES = """
WITH RECURSIVE lanes AS (
    (SELECT lane FROM ai.jobs WHERE state = 'queued' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT j.lane FROM ai.jobs j WHERE j.state = 'queued' AND j.lane > l.lane ORDER BY j.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL)
SELECT lane AS id, NULL AS leases, NULL AS asks, false AS trusted, NULL AS unproven FROM lanes WHERE lane IS NOT NULL
UNION ALL
SELECT miner, count(*), NULL, false, NULL FROM ai.attempts WHERE ended IS NULL AND miner = ANY($1::uuid[]) GROUP BY miner
UNION ALL
SELECT miner, NULL, asks, trusted, unproven FROM ai.asks WHERE miner = ANY($1::uuid[])
UNION ALL
SELECT account, -1, buyers, NULL, NULL FROM ai.terms WHERE account = ANY($2::uuid[]) AND buyers <> ''
UNION ALL
(SELECT NULL, -1, owners, NULL, NULL FROM ai.terms WHERE owners <> '' LIMIT 1)
UNION ALL
SELECT account, -2, NULL, NULL, NULL FROM unnest($2::uuid[]) AS o(account)
CROSS JOIN LATERAL (
    SELECT FROM ai.jobs j WHERE j.account = o.account AND j.state = 'queued' ORDER BY j.lane LIMIT 1) AS own
UNION ALL
SELECT id, -3, session, NULL, NULL FROM ai.attempts
WHERE ended IS NULL AND miner = ANY($1::uuid[]) AND running_at IS NULL AND session = ANY($3::text[])"""


class Seat(Struct):
    """A claim while jobs are dealt out."""

    claim: Claim
    leases: list[Lease]
    room: int
    """How many jobs fit: what it asks for, within what its slots leave over."""
    bytes_left: int = ANSWER_BYTES_MAX
    asks: str = NO_ASKS
    """What its miner asks, as it is kept."""
    owner: str = ""
    """The UUID of its miner's owner, where it matters with whom that deals; else empty."""
    buyers: str = ANYBODY
    """Whose jobs the owner's miners take."""
    is_trusted: bool = False
    """Whether its miner may check the work of others."""
    unproven: str = ""
    """The kinds that are not offered on its miner until a canary passes, with a blank between."""
    devices: Room | None = None
    """What is left of its miner's GPUs; none where no waiting job asks for any of them."""
    models: Counter[str] = msgspec.field(default_factory=Counter)
    """How many jobs of each model it got."""

    def add(self, lease: Lease, job: JobValue) -> None:
        """It has this lease of this job."""
        self.leases.append(lease)
        self.bytes_left -= len(job.input or "")
        if (model := needs_of(job.needs).model) is not None:
            self.models[model] += 1

    def may_have(self, needs: Needs) -> bool:
        """Whether jobs with these needs are for its miner: not those for another one, nor kinds that it must prove."""
        if needs.miner is not None:
            return needs.miner == self.claim.miner
        return not self.unproven or needs.kind not in self.unproven.split()

    def takes_model(self, model: str | None) -> bool:
        """Whether another job of a model goes in."""
        free = None if model is None else self.claim.models_free.get(model)
        return free is None or self.models[str(model)] < free

    def has_room(self, size: int) -> bool:
        """Whether another job goes in; the first always does."""
        return len(self.leases) < self.room and (not self.leases or size <= self.bytes_left)


@dataclass(slots=True)
class Waiting:
    """What waits, and what is known of the miners that claim, as one statement read it."""

    lanes: dict[UUID, Needs] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    asks: dict[str, str] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    """The miners that may check the work of others."""
    unproven: dict[str, str] = field(default_factory=dict)
    """By miner: the kinds that are not offered on it until a canary passes, with a blank between."""
    buyers: dict[UUID, str] = field(default_factory=dict)
    """By owner: whose jobs its miners take, where it says so."""
    own: set[str] = field(default_factory=set)
    """The owners of miners who have jobs of their own that wait."""
    unreceived: list[tuple[str, str]] = field(default_factory=list)
    """By session: the leases under which no work has begun; their miner has them, or they never arrived."""
    owners_matter: bool = False
    """Whether any payer says whose miners its jobs go to."""

    def read(self, rows: Sequence[Any]) -> list[UUID]:
        """Sort the rows; returns the lanes."""
        lanes = []
        for id_, leases, text, is_trusted, unproven in rows:
            if leases is None and text is None:
                lanes.append(id_)
            elif leases == OWN_JOBS:
                self.own.add(ids.encode("acct", id_))
            elif leases == UNRECEIVED:
                self.unreceived.append((text, ids.encode("att", id_)))
            elif leases is None:
                miner = ids.encode("mnr", id_)
                self.asks[miner] = text
                self.trusted.update({miner} if is_trusted else ())
                if unproven:
                    self.unproven[miner] = unproven
            elif text is None:
                self.leases[ids.encode("mnr", id_)] = leases
            elif id_ is None:
                self.owners_matter = True
            else:
                self.buyers[id_] = text
        return lanes

    def tell(self, seat: Seat) -> None:
        """Write down what a claim's miner asks, and with whom its owner deals; a booking was agreed on."""
        seat.asks, seat.is_trusted = self.asks.get(seat.claim.miner, NO_ASKS), seat.claim.miner in self.trusted
        seat.unproven = self.unproven.get(seat.claim.miner, "")
        owner = ids.decode("acct", seat.claim.miner_account)
        if seat.claim.capabilities.booking is None and (self.owners_matter or owner in self.buyers):
            seat.owner, seat.buyers = str(owner), self.buyers.get(owner, ANYBODY)


def leave_room(seats: Sequence[Seat], live: dict[str, int]) -> None:
    """Heed what each miner works on already: it never gets more than its slots hold."""
    for seat in seats:
        miner = seat.claim.miner
        if seat.claim.slots_total is not None:
            seat.room = min(seat.claim.slots, max(0, seat.claim.slots_total - live.get(miner, 0)))
            live[miner] = live.get(miner, 0) + seat.room  # a second claim of it in this batch


def tables_of(seats: Sequence[Seat]) -> list[list[Seat]]:
    """The claims with equal capabilities and asks together: one statement serves them.

    So it does those of one owner, where it matters with whom that deals.
    """
    tables: dict[tuple[bytes, str, str, str], list[Seat]] = defaultdict(list)
    for seat in seats:
        capabilities = msgspec.json.encode(seat.claim.capabilities, order="deterministic")
        tables[capabilities, seat.asks, seat.owner, seat.unproven].append(seat)
    return list(tables.values())


def own_tables(table: Sequence[Seat], owners: set[str]) -> list[tuple[str, list[Seat]]]:
    """Those of these claims whose miners' owners have jobs of their own that wait, by owner."""
    found: dict[str, list[Seat]] = defaultdict(list)
    for seat in table:
        if seat.claim.miner_account in owners:
            found[seat.claim.miner_account].append(seat)
    return list(found.items())
