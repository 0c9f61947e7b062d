"""What an operator looks into: settings with their origin, the database, and from which level on the log is written."""

from typing import Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency

from aitbc.kernel.primitives.errors import AppError
from aitbc.web.visit import READ, SEND, Visit, faults_of, see

OPERATIONS = "/api/v1/operations"
LEVELS = ("debug", "info", "warning", "error")


class InspectionPages(Controller):
    """Settings, database, log."""

    path = "/operator"
    include_in_schema = False

    @get("/settings", opt=READ)
    async def settings(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Every setting with its value and where it comes from, by table."""
        found = (await visit.get(f"{OPERATIONS}/settings"))["data"]
        tables: dict[str, list[Any]] = {}
        for one in found:
            table, _, name = one["name"].rpartition(".")
            tables.setdefault(table, []).append({**one, "short": name})
        changed = [one for one in found if one["origin"] != "default"]
        return visit.page(
            "operations/settings.html", tables=tables, changed=changed, cli=["aitbc config show --origin"]
        )

    @get("/database", opt=READ)
    async def database(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """How large the database is, what it works on, and what waits for whom."""
        found = await visit.get(f"{OPERATIONS}/database")
        return visit.page("operations/database.html", database=found, cli=["aitbc db state --json"])

    @get("/log-levels", opt=READ)
    async def levels(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """From which level on each process logs."""
        return await _levels_page(visit)

    @post("/log-levels", opt=SEND)
    async def set_level(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Log from another level on, until the processes are started again."""
        form = await visit.form()
        try:
            await visit.send(f"{OPERATIONS}/log-levels", form.given("level", "logger"), method="PUT")
        except AppError as refusal:
            return await _levels_page(visit, error=refusal)
        return see("/operator/log-levels")


async def _levels_page(visit: Visit, error: AppError | None = None) -> Response[bytes]:
    return visit.page(
        "operations/log_levels.html",
        processes=(await visit.get(f"{OPERATIONS}/log-levels"))["data"],
        levels=LEVELS,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc log-level list", "aitbc log-level set debug --logger gpu"],
    )
