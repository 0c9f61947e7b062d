"""The service of monitoring: delegates the face to its parts, and names event handlers and periodic tasks."""

from collections.abc import Sequence
from datetime import date

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.clock import elapsed
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi, Presence
from aitbc.modules.monitoring.api import Alert, Monitor, MonitorPoint, Overview, StatusSummary, Usage
from aitbc.modules.monitoring.models.forecast import Forecast, forecast
from aitbc.modules.monitoring.service.alert_rules import AlertRules
from aitbc.modules.monitoring.service.class_purchases import ClassPurchases
from aitbc.modules.monitoring.service.class_renewals import ClassRenewals
from aitbc.modules.monitoring.service.dashboard import Dashboard
from aitbc.modules.monitoring.service.declared import Declared
from aitbc.modules.monitoring.service.evaluation import Evaluation
from aitbc.modules.monitoring.service.figures import Figures
from aitbc.modules.monitoring.service.history import MonitorHistory
from aitbc.modules.monitoring.service.host import Host
from aitbc.modules.monitoring.service.mails import Mails
from aitbc.modules.monitoring.service.monitors import Monitors
from aitbc.modules.monitoring.service.objectives import Objectives, work_figure
from aitbc.modules.monitoring.service.probes import Probes
from aitbc.modules.monitoring.service.recording import Recorder
from aitbc.modules.monitoring.service.retention import Retention
from aitbc.modules.monitoring.service.service_classes import ServiceClasses
from aitbc.modules.monitoring.service.settings import MonitoringSettings
from aitbc.modules.monitoring.service.upkeep import UpkeepRuns
from aitbc.modules.monitoring.service.usage import UsageReports
from aitbc.modules.monitoring.service.watch import Watch
from aitbc.modules.monitoring.service.windows import Windows
from aitbc.modules.trading.api import TradingApi

OPERATOR = "operator"
"""The name of the account that is told by rules that nobody made over the API."""
START_SECONDS = 0.9
"""How long a process is left alone after its start: it and what it depends on are just coming up."""
FORECAST_HOURS = 24 * 14
"""From how many hours a forecast is made at most."""


class MonitoringService:
    """Watches the installation and what its operator names, and tells when something is wrong."""

    def __init__(
        self,
        db: Database,
        platform: Platform,
        gpu: GpuApi,
        ai: AiApi,
        trading: TradingApi,
        settings: MonitoringSettings | None = None,
    ) -> None:
        self.db = db
        self.settings = settings or MonitoringSettings()
        self._platform = platform
        retention = Retention(platform.parameters)
        self.probes = Probes(platform, gpu)
        self.recorder = Recorder(db, retention)
        self.watch = Watch(db, self.probes, self.recorder)
        self.monitor_registry = Monitors(db, platform.egress)
        self.monitor_windows = Windows(db)
        self.monitor_history = MonitorHistory(db, retention)
        self.declared = Declared(db, self.monitor_registry, self.probes, self.settings)
        self.figures = Figures(db, self.probes)
        self.alert_rules = AlertRules(db)
        self.mails = Mails(db, self.settings)
        self.evaluation = Evaluation(db, self.mails)
        self.objectives = Objectives(db)
        self.usage_reports = UsageReports(db, trading, ai)
        self.service_classes = ServiceClasses(db)
        self.class_purchases = ClassPurchases(db, trading, ai, platform.identity)
        self.class_renewals = ClassRenewals(db, self.class_purchases)
        self.upkeep_runs = UpkeepRuns(db, self.probes)
        self.host = Host(platform.state_dir)
        self.dashboard = Dashboard(self.monitor_registry, self.alert_rules)
        self._gpu = gpu
        self._started = elapsed()

    async def stop(self) -> None:
        """Give up the looks that go on."""
        await self.watch.stop()

    # The face

    async def overview(self) -> Overview:
        """What is wrong now."""
        return await self.monitor_history.overview()

    async def monitors(self) -> Sequence[Monitor]:
        """Every monitor as it stands, by name."""
        return await self.monitor_registry.list_all()

    async def history(self, monitor: str, width: str) -> Sequence[MonitorPoint]:
        """The looks at a monitor, oldest first."""
        return await self.monitor_history.points(monitor, width)

    async def status(self, days: int = 90, *, public_only: bool = True) -> StatusSummary:
        """What a status page shows."""
        return await self.monitor_history.status(days, public_only=public_only)

    async def is_status_public(self) -> bool:
        """Whether the operator shows the status page to everybody."""
        return self.settings.status_page

    async def alerts(self, *, firing_only: bool, limit: int, before: str | None = None) -> Sequence[Alert]:
        """Alerts, newest first."""
        return await self.alert_rules.alerts(firing_only=firing_only, limit=limit, before=before)

    async def usage(
        self, by: Sequence[str], since: date | None = None, until: date | None = None, account: str | None = None
    ) -> Sequence[Usage]:
        """What was paid for work."""
        return await self.usage_reports.report(by, since=since, until=until, account=account)

    # Event handlers

    async def on_facts(self, uow: UnitOfWork, events: Sequence[Event]) -> None:
        """Count events, for the rules that look at how often they come."""
        await self.figures.count_events(uow, events)

    # Periodic tasks

    async def tick(self) -> None:
        """Look at what is due, once this process has been there for a moment."""
        if self.uptime >= START_SECONDS:
            await self.look()

    async def run_rules(self) -> None:
        """Read the figures, and evaluate the rules; not in the first moment of a process."""
        if self.uptime >= START_SECONDS:
            await self.evaluate()

    async def look(self) -> None:
        """Read what is declared where it changed, and look at what is due."""
        await self.declared.sync()
        await self.watch.tick()

    async def evaluate(self) -> None:
        """Read the figures of all processes, keep the history of some, and evaluate the rules."""
        samples = await self.figures.read()
        rules = await self.alert_rules.list_all()
        objectives = await self.objectives.list_all()
        wanted = [rule.target for rule in rules if rule.source == "figure"]
        wanted += [work_figure(one.work, outcome) for one in objectives if one.work for outcome in ("good", "bad")]
        await self.figures.keep(samples, wanted)
        operator = await self._platform.identity.ensure_account(OPERATOR)
        burning = {one.name: float(one.is_burning) for one in objectives}
        events = await self.figures.events_lately()
        await self.evaluation.run(samples, events, burning, operator=operator.id)

    async def send_mails(self) -> None:
        """Send the mails that are due."""
        await self.mails.send_due()

    async def collect_usage(self) -> None:
        """Add what was paid since the last time."""
        await self.usage_reports.collect()

    async def judge_classes(self) -> None:
        """Renew the periods of service classes that end, judge those that are over, and credit what was missed."""
        await self.class_renewals.run_due()
        await self.class_purchases.run_due()

    async def purge(self) -> None:
        """Delete what is older than its retention."""
        if self.uptime >= START_SECONDS:
            await self.recorder.purge()

    # For the older dashboards

    @property
    def uptime(self) -> float:
        """For how many seconds this process has been there."""
        return round(elapsed() - self._started, 3)

    async def presence(self) -> Presence:
        """How many miners there are."""
        return await self._gpu.presence()

    # Capacity

    async def forecast(self, figure: str, hours: int) -> Forecast:
        """What is expected of a figure in the next hours, with its error, or why nothing is."""
        return forecast(await self.figures.hours(figure, FORECAST_HOURS), hours)
