"""What time does with proposals: each step is taken once, by whoever comes first, and twice changes nothing."""

from datetime import timedelta

import msgspec
import structlog
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.governance.models.ballots import Choice, Tally, tally
from aitbc.modules.governance.models.life import ProposalState, passes, quorum_of
from aitbc.modules.governance.models.tables import ProposalRow, SponsorRow, StakeRow, VoteRow
from aitbc.modules.governance.models.views import rules_of
from aitbc.modules.governance.service.execution import Execution
from aitbc.modules.governance.service.power import snapshot
from aitbc.modules.governance.service.proposals import release_deposit
from aitbc.modules.governance.service.refusals import ProposalMoved
from aitbc.modules.governance.service.steps import step

S = ProposalState
AT_ONCE = 100
log = structlog.get_logger("aitbc.governance")


class Clockwork:
    """Moves proposals on."""

    def __init__(self, db: Database, execution: Execution) -> None:
        self._db = db
        self._execution = execution

    async def advance(self) -> int:
        """Take every step that is due; returns how many proposals were looked at."""
        if not await self._db.is_any("governance.proposals WHERE due_at <= $1", now()):
            return 0
        due = select(ProposalRow.id, ProposalRow.state).where(ProposalRow.due_at <= now())
        async with self._db.reading() as session:
            found = (await session.execute(due.order_by(ProposalRow.due_at, ProposalRow.id).limit(AT_ONCE))).all()
        for proposal, state in found:
            try:
                if state == S.QUEUED:
                    await self._execution.execute(proposal)
                else:
                    await self._step(proposal)
            except ProposalMoved:  # somebody else takes that step
                continue
            except AppError as error:  # the next round tries again
                log.warning("proposal_postponed", proposal=proposal, reason=error.message)
        return len(found)

    @retrying
    async def _step(self, proposal: str) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ProposalRow, proposal, lock=True)
            if row.due_at is None or row.due_at > now():
                return
            if row.state == S.PENDING:
                await _start(uow, row)
            elif row.state == S.ACTIVE:
                await _decide(uow, row)
            elif row.state == S.EXECUTION_FAILED:
                step(uow, row, S.EXPIRED)


async def _start(uow: UnitOfWork, row: ProposalRow) -> None:
    """Take the snapshot. Voting that starts late, since nothing ran here at its time, lasts as long as it was to."""
    number, everything = await snapshot(uow)
    supporting = select(total(StakeRow.locked_units)).where(
        StakeRow.account.in_(select(SponsorRow.account).where(SponsorRow.proposal == row.id))
    )
    supported = int((await uow.session.execute(supporting)).scalar_one())
    at = now()
    if supported < row.needed_units:
        step(uow, row, S.EXPIRED)
        row.reason = "Its supporters did not have the power that a proposal needs."
        release_deposit(uow, row)
        return
    row.snapshot, row.snapshot_at, row.total_units = number, at, everything
    row.voting_starts, row.voting_ends = at, at + (row.voting_ends - row.voting_starts)
    step(uow, row, S.ACTIVE)


async def _decide(uow: UnitOfWork, row: ProposalRow) -> None:
    """Count what was voted, and queue what is to be executed."""
    assert row.total_units is not None, "voting started with a snapshot"
    has_quorum = row.cast_units >= quorum_of(rules_of(row), row.total_units)
    if row.ballot == "basic":
        accepted = passes(rules_of(row), row.for_units, row.against_units)
    else:
        counted = await count(uow, row)
        row.outcome = msgspec.json.encode(counted).decode()
        accepted = counted.winner is not None
    row.decided_at = now()
    step(uow, row, S.SUCCEEDED if has_quorum and accepted else S.DEFEATED)
    release_deposit(uow, row)
    if row.state == S.SUCCEEDED and row.actions != "[]":
        row.executes_at = row.decided_at + timedelta(seconds=row.timelock_seconds)
        row.expires_at = row.executes_at + timedelta(seconds=row.execution_seconds)
        step(uow, row, S.QUEUED)
    elif row.state == S.SUCCEEDED:
        row.ended_at = row.decided_at


async def count(uow: UnitOfWork, row: ProposalRow) -> Tally:
    """The tally of a ballot with options, from the stored votes."""
    wanted = select(VoteRow.choice, VoteRow.units).where(VoteRow.proposal == row.id)
    decode = msgspec.json.Decoder(Choice).decode
    known: dict[str, Choice] = {}
    votes = [
        (known.get(text) or known.setdefault(text, decode(text)), units)
        for text, units in await uow.session.execute(wanted)
    ]
    return tally(row.ballot, len(row.options), votes)
