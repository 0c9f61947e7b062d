"""How things are: the status page, the operator's monitors and alerts, and what work cost, by what people ask for."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Forbidden
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.money import parse, render
from aitbc.web.visit import READ, SEND, Guest, SignedOut, Visit, faults_of, part, see

MONITORING = "/api/v1/monitoring"
STATUS_DAYS = 90
USAGE_DAYS = 30
KEYS = 100
ALERTS = 25
MONITORS_READ = "monitors:read"
Group = Literal["day", "kind", "model", "key", "miner", "account"]
GROUPS = ("day", "kind", "model", "key", "miner")
Days = Annotated[int, Meta(ge=1, le=366)]
Cursor = Annotated[str, Meta(max_length=500)]


class StatusPages(Controller):
    """The status, for everybody where the operator says so."""

    path = "/status"
    include_in_schema = False

    @get("/", opt=READ)
    async def status(self, guest: NamedDependency[Guest]) -> Response[bytes]:
        """Each component with its last 90 days, incidents and maintenance; only what was measured.

        Who may read monitors sees all of them, everybody else the public ones. Raises `SignedOut` where the operator
        shows it to nobody else.
        """
        visit = guest.visit
        if visit is not None and visit.who.may(MONITORS_READ):
            path = f"{MONITORING}/components?days={STATUS_DAYS}"
            found = await visit.get(path)
        else:
            path = f"{MONITORING}/status?days={STATUS_DAYS}"
            try:
                found = await guest.get(path)
            except Forbidden as refusal:
                if visit is not None:
                    raise
                raise SignedOut from refusal
        components = [{**one, "strip": [_day(day) for day in one["days"]]} for one in found["components"]]
        return guest.page(
            "monitoring/status.html",
            status=found,
            components=components,
            is_whole=path.startswith(f"{MONITORING}/components"),
            cli=["aitbc monitor list"] if visit else [],
            calls=[path],
        )


def _day(day: dict[str, Any]) -> tuple[str, str]:
    """The state of a day, and what is said of it."""
    if day["uptime"] is None:
        return "unknown", f"{day['day']}: no data"
    return day["state"], f"{day['day']}: {day['state']}, {day['uptime'] * 100:.2f} % up"


class MonitorPages(Controller):
    """What the operator has watched."""

    path = "/operator/monitors"
    include_in_schema = False

    @get("/", opt=READ)
    async def monitors(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """Monitors, alerts, objectives and maintenance."""
        return await _monitors_page(visit, cursor=cursor)

    @post("/maintenance", opt=SEND)
    async def plan(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Plan maintenance: nobody is alarmed, and nothing counts as an outage."""
        form = await visit.form()
        body = {
            "title": form.get("title"),
            "starts_at": form.moment("starts_at"),
            "ends_at": form.moment("ends_at"),
            "monitors": form.get("monitors").replace(",", " ").split(),
        }
        try:
            await visit.send(f"{MONITORING}/maintenance", body, once=form.get("once") or None)
        except AppError as refusal:
            return await _monitors_page(visit, error=refusal)
        return see("/operator/monitors")

    @post("/maintenance/{window:str}/cancel", opt=SEND)
    async def cancel(self, visit: NamedDependency[Visit], window: FromPath[str]) -> Response[bytes]:
        """Call maintenance off."""
        await visit.form()
        await visit.send(f"{MONITORING}/maintenance/{part(window)}/cancel")
        return see("/operator/monitors")


async def _monitors_page(visit: Visit, *, cursor: str | None = None, error: AppError | None = None) -> Response[bytes]:
    return visit.page(
        "monitoring/monitors.html",
        monitors=(await visit.get(f"{MONITORING}/monitors"))["data"],
        alerts=await visit.get(f"{MONITORING}/alerts", limit=ALERTS, cursor=cursor),
        objectives=(await visit.get(f"{MONITORING}/objectives"))["data"],
        windows=(await visit.get(f"{MONITORING}/maintenance", limit=ALERTS))["data"],
        once=new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc monitor list", "aitbc alert list", "aitbc monitor objectives", "aitbc monitor maintenance"],
    )


class UsagePages(Controller):
    """What was paid for work."""

    path = "/account/usage"
    include_in_schema = False

    @get("/", opt=READ)
    async def usage(
        self, visit: NamedDependency[Visit], by: FromQuery[Group] = "day", days: FromQuery[Days] = USAGE_DAYS
    ) -> Response[bytes]:
        """The sums of the ledger's receipts by what is asked for; operators see everybody's."""
        today = now().date()
        first = today - timedelta(days=days - 1)
        rows = (await visit.get(f"{MONITORING}/usage", by=by, from_day=first.isoformat()))["data"]
        return visit.page(
            "monitoring/usage.html",
            rows=rows,
            by=by,
            days=days,
            total=render(sum(parse(row["price"], zero=True) for row in rows)),
            jobs=sum(row["jobs"] for row in rows),
            chart=_by_day(rows, first, days) if by == "day" else None,
            groups=(*GROUPS, "account") if visit.who.is_admin else GROUPS,
            names=await _names_of_keys(visit) if by == "key" else {},
            refunded=render(sum(parse(row["refunded"], zero=True) for row in rows)),
            cli=[f"aitbc usage --by {by}"],
        )


async def _names_of_keys(visit: Visit) -> dict[str, str]:
    """The names of the account's keys by their ids, for who may see them."""
    path = "/api/v1/identity/keys"
    found = await visit.maybe(path, scope="keys:manage", account=visit.who.account, limit=KEYS)
    return {key["id"]: key["name"] for key in found["data"]} if found else {}


def _by_day(rows: list[dict[str, Any]], first: date, days: int) -> list[float]:
    """What was paid on each day, in minor units; nothing where there is no row."""
    paid = {row["day"]: float(parse(row["price"], zero=True)) for row in rows}
    return [paid.get((first + timedelta(days=day)).isoformat(), 0.0) for day in range(days)]
