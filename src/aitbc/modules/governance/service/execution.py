"""Execution: what was decided takes effect, whole or not at all, and once.

Live parameters are set in one transaction of the kernel under the proposal's id, which it knows from then on; payments
become rows, and what is decided about plugins an event, in the transaction that makes the proposal executed. A crash
between leaves a proposal whose execution has begun, which the next round goes on with.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.governance.models.actions import Action, rulings_of, settings_of
from aitbc.modules.governance.models.life import ProposalState
from aitbc.modules.governance.models.tables import ProposalRow
from aitbc.modules.governance.service.checks import Checks
from aitbc.modules.governance.service.proposals import found
from aitbc.modules.governance.service.refusals import ProposalMoved, TimelockNotOver
from aitbc.modules.governance.service.steps import step
from aitbc.modules.governance.service.treasury import Treasury

S = ProposalState
BEGUN = timedelta(seconds=30)
"""How long an execution that has begun is left to whoever began it."""
Spend = Callable[[UnitOfWork, datetime], Awaitable[None]]
ACTIONS = msgspec.json.Decoder(tuple[Action, ...])


class Execution:
    """Executes what is queued."""

    def __init__(self, db: Database, parameters: Parameters, checks: Checks, treasury: Treasury) -> None:
        self._db = db
        self._parameters = parameters
        self._checks = checks
        self._treasury = treasury

    async def execute(self, proposal: str, who: Principal | None = None) -> ProposalState:
        """Execute a proposal whose timelock is over; one that was executed stays as it is.

        What an action refuses makes it `execution_failed`. Raises `ProposalNotFound`, `ProposalMoved`,
        `TimelockNotOver`, and `Unavailable` where something did not answer: then nothing is decided, and it is tried
        again.
        """
        row = await self._begin(proposal, who)
        if row is None:
            return S.EXECUTED
        if row.state == S.EXPIRED:
            return S.EXPIRED
        actions = ACTIONS.decode(row.actions)
        try:
            await self._parameters.refresh()
            if not self._parameters.were_set_by(row.id):
                await self._checks.require(row.class_, actions)
                if settings := settings_of(actions):
                    await self._parameters.set(settings, row.id)
            room = await self._treasury.room()
            await self._end(row.id, actions, lambda uow, at: self._treasury.spend(uow, row.id, actions, room, at))
        except Unavailable:
            await self._leave(row.id)
            raise
        except AppError as refusal:
            return await self._fail(row.id, refusal.message)
        return S.EXECUTED

    @retrying
    async def _begin(self, proposal: str, who: Principal | None) -> ProposalRow | None:
        """The proposal whose execution has begun with this; none where it was executed before."""
        async with self._db.unit_of_work() as uow:
            row, at = await found(uow, proposal), now()
            if row.state == S.EXECUTED:
                return None
            if row.state not in (S.QUEUED, S.EXECUTION_FAILED):
                raise ProposalMoved(f"This proposal is {row.state}; only what is queued can be executed.")
            if row.executes_at is None or row.expires_at is None or at < row.executes_at:
                raise TimelockNotOver
            if row.execution_started_at is not None and at < row.execution_started_at + BEGUN:
                raise ProposalMoved("The execution of this proposal is under way.")
            if at >= row.expires_at and row.execution_started_at is None:
                step(uow, row, S.EXPIRED)
                return row
            row.execution_started_at = at
            if who is not None:
                await uow.audit(who.account, who.key, "proposal.execute", row.id)
            return row

    @retrying
    async def _end(self, proposal: str, actions: Sequence[Action], spend: Spend) -> None:
        async with self._db.unit_of_work() as uow:
            row, at = await found(uow, proposal), now()
            if row.state == S.EXECUTED:
                return
            await spend(uow, at)
            for plugin, allowed in rulings_of(actions).items():
                uow.publish(PluginRuled(plugin=plugin, allowed=allowed, proposal=row.id, ruled_at=at))
            step(uow, row, S.EXECUTED)
            row.execution_started_at, row.failure = None, None
            await uow.audit("governance", "system", "proposal.executed", row.id)

    @retrying
    async def _fail(self, proposal: str, message: str) -> ProposalState:
        async with self._db.unit_of_work() as uow:
            row = await found(uow, proposal)
            if row.state in (S.QUEUED, S.EXECUTION_FAILED):
                step(uow, row, S.EXECUTION_FAILED)
                row.execution_started_at, row.failure = None, message[:500]
                await uow.audit("governance", "system", "proposal.execution_failed", row.id, failure=row.failure)
            return S(row.state)

    @retrying
    async def _leave(self, proposal: str) -> None:
        """Let the next round try again at once: nothing took effect, or what did is known by its id."""
        async with self._db.unit_of_work() as uow:
            row = await found(uow, proposal)
            if row.execution_started_at is not None:
                row.execution_started_at = now() - BEGUN
