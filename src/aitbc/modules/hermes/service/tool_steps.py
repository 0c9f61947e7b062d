"""Steps that are tools of MCP servers: called once, for nothing can be known of a call whose answer was lost."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Unreachable
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.templates import FilledTooLarge
from aitbc.modules.hermes.models.plans import fill
from aitbc.modules.hermes.models.shapes import AgentToolStep
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.mcp_servers import McpServers, ToolRefused
from aitbc.modules.hermes.service.outcomes import Broken, Done, Going, Halted, Outcome, pause
from aitbc.modules.hermes.service.views import asked_of, plan_of

OUTPUT_LENGTH_MAX = 1024 * 1024
INTERRUPTED = "tool_interrupted"
"""Whether the tool did it nobody knows: its answer did not come, or who had asked it was gone."""


class ToolSteps:
    """Calls tools, each by the one process that wrote down that it does.

    Until when it counts as being at it stands in `remote`. After that time a call whose answer is not there is made
    again where its owner says that this does no harm, and is a failure where not.
    """

    def __init__(self, db: Database, servers: McpServers, call_seconds: float) -> None:
        self._db = db
        self._servers = servers
        self._lasts = timedelta(seconds=3 * call_seconds + 10)

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Call the tool; or wait for another process that does."""
        plan, asked = plan_of(step), asked_of(run)
        assert isinstance(plan, AgentToolStep)
        try:
            arguments = fill(plan.arguments, asked.text, asked.data, outputs)
        except FilledTooLarge as error:
            return Broken(reason=error.code)
        if step.remote is not None:
            left = (_read(step.remote) - now()).total_seconds()
            if left > 0:
                return Going(seconds=left)
            if not plan.repeatable:
                return Broken(reason=INTERRUPTED)
        if not await self._claim(step, _written(now() + self._lasts)):
            return Going(seconds=pause(step))
        try:
            session = await self._servers.open(plan.server)
        except (Unreachable, AppError):  # nothing was asked of the tool yet
            await self._claim(step, None)
            return Going(seconds=pause(step))
        except ToolRefused:
            return Broken(reason="tool_refused")
        return await self._call(plan, session, arguments)

    async def _call(self, plan: AgentToolStep, session: dict[str, str], arguments: dict[str, object]) -> Outcome:
        try:
            text = await self._servers.call(plan.server, session, plan.tool, arguments)
        except (Unreachable, AppError):
            return Going(seconds=self._lasts.total_seconds()) if plan.repeatable else Broken(reason=INTERRUPTED)
        except ToolRefused:
            return Broken(reason="tool_failed")
        if len(text) > OUTPUT_LENGTH_MAX:
            return Broken(reason="answer_too_large")
        return Done(spent_units=0, output=text)

    @retrying
    async def _claim(self, step: StepRow, remote: str | None) -> bool:
        """Write down who is at a step, if that still is as it was seen; the step that was seen follows."""
        seen = StepRow.remote.is_(None) if step.remote is None else StepRow.remote == step.remote
        which = (StepRow.run == step.run, StepRow.number == step.number, StepRow.state == step.state, seen)
        async with self._db.unit_of_work() as uow:
            taken = await uow.session.execute(
                update(StepRow).where(*which).values(remote=remote).returning(StepRow.number)
            )
            found = taken.one_or_none() is not None
        if found:
            step.remote = remote
        return found

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Wait no longer: a tool cannot be stopped, and costs nothing."""
        return Halted(spent_units=0)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)
