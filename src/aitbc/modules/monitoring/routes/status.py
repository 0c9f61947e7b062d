"""The overview, the status summary, usage, capacity and upkeep."""

from datetime import date
from typing import Annotated, Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import Forbidden, NotDone
from aitbc.kernel.primitives.pagination import Page
from aitbc.modules.monitoring.api import Overview, StatusSummary, Usage
from aitbc.modules.monitoring.models.forecast import Forecast
from aitbc.modules.monitoring.routes.monitors import READ
from aitbc.modules.monitoring.service import MonitoringService
from aitbc.modules.monitoring.service.history import MonitorHistory
from aitbc.modules.monitoring.service.upkeep import UpkeepDone, UpkeepRuns
from aitbc.modules.monitoring.service.usage import UsageReports

Days = Annotated[int, Meta(ge=1, le=365)]
Hours = Annotated[int, Meta(ge=1, le=168)]
Figure = Annotated[str, Meta(min_length=1, max_length=500)]
Group = Literal["day", "account", "miner", "kind", "model", "key"]
Groups = Annotated[list[Group] | None, QueryParameter(name="by")]


class StatusNotPublic(Forbidden):
    """The operator does not show the status to everybody."""

    code = "status_not_public"


class WantedUpkeep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done to the database."""

    action: Literal["cleanup", "reindex", "backup"]
    """Remove what is past its retention, rebuild all indexes, or write a backup. For example `cleanup`."""


class StatusController(Controller):
    """How things are."""

    path = "/"
    tags = ("monitoring",)

    @get("/overview", operation_id="get_overview", summary="What is wrong now?", opt={"permission": READ})
    async def overview(self, monitor_history: NamedDependency[MonitorHistory]) -> Overview:
        """What is wrong now: the monitors that are not up, and the alerts that fire."""
        return await monitor_history.overview()

    @get(
        "/status",
        operation_id="get_status_summary",
        summary="The status, as everybody may see it",
        opt={"permission": PUBLIC, "errors": (StatusNotPublic,)},
    )
    async def status(self, monitoring: NamedDependency[MonitoringService], days: FromQuery[Days] = 90) -> StatusSummary:
        """Each public component with its last days, incidents and maintenance, where the operator shows that."""
        if not await monitoring.is_status_public():
            raise StatusNotPublic
        return await monitoring.status(days, public_only=True)

    @get(
        "/components",
        operation_id="get_component_status",
        summary="The status of every monitor",
        opt={"permission": READ},
    )
    async def components(
        self, monitoring: NamedDependency[MonitoringService], days: FromQuery[Days] = 90
    ) -> StatusSummary:
        """The same of every monitor, whether public or not."""
        return await monitoring.status(days, public_only=False)

    @get(
        "/usage",
        operation_id="get_usage",
        summary="What was paid for work",
        opt={"permission": "ledger:read", "errors": (Forbidden,)},
    )
    async def usage(
        self,
        usage_reports: NamedDependency[UsageReports],
        who: NamedDependency[Principal],
        by: Groups = None,
        account: FromQuery[str | None] = None,
        from_day: FromQuery[date | None] = None,
        to_day: FromQuery[date | None] = None,
    ) -> Page[Usage]:
        """What was paid for work by day, miner, kind, model and API key; every account sees its own, operators all.

        The sums are those of the ledger's receipts to the last unit, as far as they are in a block; what disputes and
        corrections gave back is counted beside them, on the day on which it went back. One page has up to
        1000 rows, the newest day and the largest sums first.
        """
        found = await usage_reports.report_for(who, by or ["day"], since=from_day, until=to_day, account=account)
        return Page(data=list(found))

    @get("/forecast", operation_id="get_forecast", summary="Forecast a figure", opt={"permission": READ})
    async def forecast(
        self,
        monitoring: NamedDependency[MonitoringService],
        figure: FromQuery[Figure] = 'aitbc_jobs{state="queued"}',
        hours: FromQuery[Hours] = 24,
    ) -> Forecast:
        """What is expected of a figure hour by hour, with the error that this made on the last day."""
        return await monitoring.forecast(figure, hours)

    @post(
        "/upkeep",
        operation_id="run_upkeep",
        summary="Clean up, reindex or back up",
        status_code=200,
        opt={"permission": "upkeep:run", "idempotency": "natural", "errors": (NotDone,), "waits": True},
    )
    async def upkeep(
        self,
        upkeep_runs: NamedDependency[UpkeepRuns],
        who: NamedDependency[Principal],
        data: JSONBody[WantedUpkeep],
    ) -> UpkeepDone:
        """Do it now, and answer when it is done. The newest five backups lie in `backups` of the state folder."""
        return await upkeep_runs.run(who, data.action)
