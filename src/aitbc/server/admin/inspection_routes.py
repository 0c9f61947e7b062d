"""The HTTP of what an operator looks into: settings, the database, levels of the log."""

from collections.abc import Sequence
from typing import Annotated

from litestar import Controller, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.kernel.primitives.pagination import Page
from aitbc.kernel.telemetry.logs import EVERY_LOGGER, Level
from aitbc.server.admin.inspection import (
    DatabaseInspection,
    DatabaseState,
    LogLevels,
    OperatingSetting,
    ProcessLogLevels,
    settings_shown,
)
from aitbc.server.config.loading import Row

Logger = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^(\*|[A-Za-z_][A-Za-z0-9_.]*)\Z")]


class SetLogLevel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which level on something logs."""

    level: Level
    """The level. For example `debug`."""
    logger: Annotated[Logger, Meta(extra_json_schema={"pattern": r"^(\*|[A-Za-z_][A-Za-z0-9_.]*)$"})] = EVERY_LOGGER
    """A module or library; left out, all that have no level of their own. For example `gpu`."""


class InspectionController(Controller):
    """Settings, database, log."""

    tags = ("operations",)

    @get("/settings", operation_id="list_settings", summary="List the settings", opt={"permission": "settings:read"})
    async def settings(self, described: NamedDependency[Sequence[Row]]) -> Page[OperatingSetting]:
        """List every setting of the main process with its value, secrets masked, and where it comes from.

        One page has them all.
        """
        return Page(data=list(settings_shown(described)))

    @get(
        "/database",
        operation_id="get_database_state",
        summary="Look into the database",
        opt={"permission": "database:read"},
    )
    async def database(self, database_inspection: NamedDependency[DatabaseInspection]) -> DatabaseState:
        """How large it is, what it works on now and what waits for whose lock, and its slowest statements."""
        return await database_inspection.state()

    @get("/log-levels", operation_id="list_log_levels", summary="List log levels", opt={"permission": "logs:read"})
    async def levels(self, log_levels: NamedDependency[LogLevels]) -> Page[ProcessLogLevels]:
        """List from which level on each process logs."""
        return Page(data=list(await log_levels.all()))

    @put(
        "/log-levels",
        operation_id="set_log_level",
        summary="Set a log level",
        opt={"permission": "logs:write", "idempotency": "natural", "errors": (Unavailable,)},
    )
    async def set_level(
        self, log_levels: NamedDependency[LogLevels], who: NamedDependency[Principal], data: JSONBody[SetLogLevel]
    ) -> Page[ProcessLogLevels]:
        """Log from another level on, in every process of this installation until it is started again."""
        return Page(data=list(await log_levels.set(who, data.logger, data.level)))
