"""The face of monitoring: all that pages and other modules may know."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Protocol

from msgspec import Struct

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.json_schema import one_of

StateName = Annotated[str, one_of(("up", "degraded", "down", "unknown", "maintenance"))]
OriginName = Annotated[str, one_of(("built_in", "file", "api"))]


class MonitorNotFound(NotFound):
    """There is no such monitor."""

    code = "monitor_not_found"


class Monitor(Struct, frozen=True, kw_only=True):
    """Something that is looked at again and again, and how it stands."""

    id: str
    """The monitor. For example `mon_01k0000000000000000000000a`."""
    name: str
    """Its name, unique. For example `module/trading`."""
    kind: Annotated[
        str, one_of(("process", "module", "database", "bus", "miners", "declarations", "http", "tcp", "push"))
    ]
    """What it looks at. For example `module`."""
    target: str
    """Where it looks. For example `trading`."""
    origin: OriginName
    """Where it was declared: a part of the installation, the file, or the API. For example `built_in`."""
    state: StateName
    """How it stands now. For example `up`."""
    since: datetime
    """Since when it is so."""
    checked_at: datetime | None
    """When it was last looked at; null before the first time."""
    response_seconds: float | None
    """How long the last look took, in seconds; null where there is nothing to measure. For example `0.0021`."""
    reason: str
    """What is wrong; empty where nothing is. For example `nothing listens there`."""
    silenced_by: str | None
    """The monitor it depends on that is down, while nobody is alarmed about this one; null otherwise.
    For example `process/main`."""
    parents: list[str]
    """The monitors it depends on. For example `["process/main"]`."""
    interval_seconds: float
    """How many seconds pass from one look to the next. For example `15.0`."""
    timeout_seconds: float
    """How many seconds a look may take. For example `5.0`."""
    slow_seconds: float | None
    """From how many seconds on it is degraded; null for never. For example `1.0`."""
    fall: int
    """How many looks in a row must be worse before the state is. For example `3`."""
    rise: int
    """How many looks in a row must be better before the state is. For example `2`."""
    public: bool
    """Whether the status page shows it to everybody. For example `true`."""
    created_at: datetime
    """When it was declared."""


class MonitorPoint(Struct, frozen=True, kw_only=True):
    """The looks at a monitor in one minute, hour or day."""

    start: datetime
    """When that began."""
    up: int
    """How many looks found it up. For example `4`."""
    degraded: int
    """How many found it degraded. For example `0`."""
    down: int
    """How many found it down. For example `0`."""
    maintenance: int
    """How many came while it was maintained. For example `0`."""
    uptime: float | None
    """The share of looks that found it working; null where none counts. For example `1.0`."""
    average_seconds: float | None
    """How long a look took on average; null where nothing was measured. For example `0.0021`."""
    longest_seconds: float | None
    """How long the longest took; null where nothing was measured. For example `0.008`."""


class StateChange(Struct, frozen=True, kw_only=True):
    """A monitor came to another state."""

    id: str
    """The change. For example `mchg_01k0000000000000000000000a`."""
    monitor: str
    """The monitor, by its name. For example `module/trading`."""
    at: datetime
    """When."""
    before: StateName
    """The state before. For example `up`."""
    after: StateName
    """The state from then on. For example `down`."""
    reason: str
    """What was wrong; empty where nothing was. For example `no answer in time`."""


class Window(Struct, frozen=True, kw_only=True):
    """A time in which monitors are maintained: nobody is alarmed, and nothing counts as an outage."""

    id: str
    """The window. For example `mwin_01k0000000000000000000000a`."""
    title: str
    """What is done. For example `New disks`."""
    monitors: list[str]
    """The monitors it concerns, by name; empty for all. For example `["site"]`."""
    origin: OriginName
    """Where it was declared. For example `api`."""
    state: Annotated[str, one_of(("planned", "active", "over", "canceled"))]
    """Whether it is to come, goes on, or is over. For example `planned`."""
    starts_at: datetime
    """From when."""
    ends_at: datetime
    """Until when."""


class DayStatus(Struct, frozen=True, kw_only=True):
    """How something was on one day."""

    day: date
    """The day (UTC). For example `2030-01-31`."""
    state: StateName
    """The worst that was found on it; unknown where nobody looked. For example `up`."""
    uptime: float | None
    """The share of looks that found it working; null where none counts. For example `0.9993`."""


class ComponentStatus(Struct, frozen=True, kw_only=True):
    """How a part of the platform is, and was."""

    name: str
    """The monitor. For example `module/trading`."""
    state: StateName
    """How it is now. For example `up`."""
    since: datetime
    """Since when."""
    uptime: float | None
    """The share of all looks in those days that found it working; null where none counts. For example `0.9998`."""
    days: list[DayStatus]
    """Day by day, oldest first."""


class StatusSummary(Struct, frozen=True, kw_only=True):
    """What a status page shows."""

    state: StateName
    """The worst state of all components. For example `up`."""
    at: datetime
    """When this was so."""
    components: list[ComponentStatus]
    """Part by part."""
    incidents: list[StateChange]
    """The newest changes of their states, newest first; 50 at most."""
    maintenance: list[Window]
    """What is maintained now or will be."""


class Alert(Struct, frozen=True, kw_only=True):
    """A rule that fired on a series, until it was cleared."""

    id: str
    """The alert. For example `alrt_01k0000000000000000000000a`."""
    rule: str
    """The rule, by its name. For example `site-down`."""
    series: str
    """What it fired on. For example `site`."""
    group: str
    """Alerts of one group are told together. For example `monitoring`."""
    severity: Annotated[str, one_of(("info", "warning", "critical"))]
    """How bad it is. For example `warning`."""
    state: Annotated[str, one_of(("firing", "cleared"))]
    """Whether it goes on. For example `firing`."""
    reason: str
    """What was found when it fired. For example `site is down: nothing listens there`."""
    value: float | None
    """The value when it fired; null where nothing was known. For example `3.0`."""
    fired_at: datetime
    """When it fired."""
    cleared_at: datetime | None
    """When it was cleared; null while it fires."""


class Overview(Struct, frozen=True, kw_only=True):
    """What is wrong now, in one look."""

    state: StateName
    """The worst state of all monitors that are not silenced. For example `up`."""
    at: datetime
    """When this was so."""
    counts: dict[str, int]
    """How many monitors are in each state."""
    wrong: list[Monitor]
    """The monitors that are not up, the worst first; 100 at most."""
    alerts: list[Alert]
    """The alerts that fire, newest first; 100 at most."""


class Usage(Struct, frozen=True, kw_only=True):
    """What was paid for work, by what was asked for."""

    day: date | None
    """The day (UTC); null where it was not asked by day. For example `2030-01-31`."""
    account: str | None
    """Who paid; null where it was not asked by account. For example `acct_01k0000000000000000000000a`."""
    miner: str | None
    """Who worked; null where it was not asked by miner. For example `mnr_01k0000000000000000000000a`."""
    kind: str | None
    """The kind of work; null where it was not asked by kind. For example `chat`."""
    model: str | None
    """The model that the jobs named, empty for none; null where it was not asked by model. For example `qwen3-8b`."""
    key: str | None
    """The API key that asked for the work, empty where the ledger does not know it; null where it was not asked by key.
    For example `key_01k0000000000000000000000a`."""
    jobs: int
    """How many jobs were paid. For example `12`."""
    price: str
    """What was paid in all, in AITBC. For example `0.0125`."""
    fee: str
    """The platform's share of it. For example `0.000312`."""
    earned: str
    """What the miners earned of it. For example `0.012188`."""
    refunded: str
    """What went back to who paid, by disputes and corrections, in those days, whenever it was paid. For example `0`."""
    refunded_fee: str
    """What of it came out of the platform's share; the rest came from the miners. For example `0`."""


class MonitoringApi(Protocol):
    """What monitoring tells pages and other modules."""

    async def overview(self) -> Overview:
        """What is wrong now."""
        ...

    async def monitors(self) -> Sequence[Monitor]:
        """Every monitor as it stands, by name."""
        ...

    async def history(self, monitor: str, width: str) -> Sequence[MonitorPoint]:
        """The looks at a monitor by `minute` (a day), `hour` (30 days) or `day` (a year), oldest first.

        Raises `MonitorNotFound`.
        """
        ...

    async def status(self, days: int = 90, *, public_only: bool = True) -> StatusSummary:
        """What a status page shows of so many days, today included."""
        ...

    async def is_status_public(self) -> bool:
        """Whether the operator shows the status page to everybody."""
        ...

    async def alerts(self, *, firing_only: bool, limit: int, before: str | None = None) -> Sequence[Alert]:
        """Alerts, newest first; those older than the alert `before`."""
        ...

    async def usage(
        self, by: Sequence[str], since: date | None = None, until: date | None = None, account: str | None = None
    ) -> Sequence[Usage]:
        """What was paid for work between two days, both included, by any of day, account, miner, kind, model, key."""
        ...
