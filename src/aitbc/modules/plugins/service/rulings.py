"""Rulings: what governance decided about plugins, and whether one may run here."""

from collections.abc import Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.plugins.models.tables import PluginRuling, RulingRow

ONLY_ALLOWED = "plugins.only_allowed"
PLUGINS_PARAMETERS = (
    Parameter(
        name=ONLY_ALLOWED,
        text="Whether only plugins run that a proposal has allowed: 1 for yes, 0 for all that none has withdrawn.",
        unit="flag",
        least=0,
        most=1,
        default=0,
    ),
)


class PluginNotAllowed(Conflict):
    """Governance has withdrawn this plugin, or lets only those run that it has allowed; the message says which."""

    code = "plugin_not_allowed"


class Rulings:
    """Knows what was decided about plugins."""

    def __init__(self, db: Database, parameters: Parameters) -> None:
        self._db = db
        self._parameters = parameters

    async def apply(self, uow: UnitOfWork, events: Sequence[PluginRuled]) -> None:
        """Keep the latest ruling about each plugin, in whichever order they come."""
        latest = {one.plugin: one for one in sorted(events, key=lambda one: (one.ruled_at, one.proposal))}
        for plugin in sorted(latest):
            event = latest[plugin]
            values = {"allowed": event.allowed, "proposal": event.proposal, "ruled_at": event.ruled_at}
            writing = insert(RulingRow).values(plugin=plugin, **values)
            newer = writing.excluded
            is_later = tuple_(RulingRow.ruled_at, RulingRow.proposal) < tuple_(newer.ruled_at, newer.proposal)
            await uow.session.execute(
                writing.on_conflict_do_update(index_elements=[RulingRow.plugin], set_=values, where=is_later)
            )
            verb = "plugins.allow" if event.allowed else "plugins.withdraw"
            await uow.audit("governance", event.proposal, verb, plugin, proposal=event.proposal)

    async def refusal(self, uow: UnitOfWork, plugin: str) -> str | None:
        """Why a plugin may not run here; none for one that may."""
        row = await uow.session.get(RulingRow, plugin)
        if row is not None and not row.allowed:
            return f"withdrawn by {row.proposal}"
        if row is None and self._parameters.value(ONLY_ALLOWED, 0):
            return "no proposal has allowed it"
        return None

    async def require(self, uow: UnitOfWork, plugin: str) -> None:
        """Raises `PluginNotAllowed`."""
        if (reason := await self.refusal(uow, plugin)) is not None:
            raise PluginNotAllowed(f"Governance does not let {plugin} run here: {reason}.")

    async def page(self, after: str, limit: int) -> Sequence[PluginRuling]:
        """What was decided, by name."""
        wanted = select(RulingRow).where(RulingRow.plugin > after).order_by(RulingRow.plugin).limit(limit)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(wanted)]
