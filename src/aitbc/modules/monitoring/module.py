"""The monitoring module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.gpu.events import BookingEnded, BookingStarted, MinerChanged
from aitbc.modules.monitoring.api import MonitoringApi
from aitbc.modules.monitoring.legacy.coordinator import CoordinatorAdmin, CoordinatorDashboard
from aitbc.modules.monitoring.legacy.dashboard import LegacyDashboard, LegacyHealth
from aitbc.modules.monitoring.models.tables import Base
from aitbc.modules.monitoring.routes.alerts import AlertController, RuleController
from aitbc.modules.monitoring.routes.monitors import (
    ChangeController,
    MaintenanceController,
    MonitorController,
    ObjectiveController,
)
from aitbc.modules.monitoring.routes.service_classes import ClassPurchaseController, ServiceClassController
from aitbc.modules.monitoring.routes.status import StatusController
from aitbc.modules.monitoring.service import MonitoringService, MonitoringSettings
from aitbc.modules.monitoring.service.alert_rules import AlertRules
from aitbc.modules.monitoring.service.class_purchases import ClassPurchases
from aitbc.modules.monitoring.service.class_renewals import ClassRenewals
from aitbc.modules.monitoring.service.history import MonitorHistory
from aitbc.modules.monitoring.service.monitors import Monitors
from aitbc.modules.monitoring.service.objectives import Objectives
from aitbc.modules.monitoring.service.retention import MONITORING_PARAMETERS
from aitbc.modules.monitoring.service.service_classes import ServiceClasses
from aitbc.modules.monitoring.service.upkeep import UpkeepRuns
from aitbc.modules.monitoring.service.usage import UsageReports
from aitbc.modules.monitoring.service.windows import Windows
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.events import AgreementSigned, HoldExpired, TradeEnded

module = Module(
    name="monitoring",
    api=MonitoringApi,
    service=MonitoringService,
    metadata=Base.metadata,
    routes=(
        MonitorController,
        ChangeController,
        MaintenanceController,
        ObjectiveController,
        AlertController,
        RuleController,
        StatusController,
        ServiceClassController,
        ClassPurchaseController,
    ),
    needs={"gpu": GpuApi, "ai": AiApi, "trading": TradingApi},
    parts={
        "monitor_registry": Monitors,
        "monitor_history": MonitorHistory,
        "monitor_windows": Windows,
        "objectives": Objectives,
        "alert_rules": AlertRules,
        "usage_reports": UsageReports,
        "upkeep_runs": UpkeepRuns,
        "service_classes": ServiceClasses,
        "class_purchases": ClassPurchases,
        "class_renewals": ClassRenewals,
    },
    handles=dict.fromkeys(
        (MinerChanged, BookingStarted, BookingEnded, HoldExpired, AgreementSigned, TradeEnded),
        MonitoringService.on_facts,
    ),
    settings=MonitoringSettings,
    scopes={"live": ("classes:read", "classes:write")},
    parameters=MONITORING_PARAMETERS,
    legacy=(LegacyHealth, LegacyDashboard),
    legacy_coordinator=(CoordinatorDashboard, CoordinatorAdmin),
    periodic_tasks=(
        PeriodicTask(run=MonitoringService.tick, every_seconds=1.0),
        PeriodicTask(run=MonitoringService.run_rules, every_seconds=15.0),
        PeriodicTask(run=MonitoringService.send_mails, every_seconds=5.0),
        PeriodicTask(run=MonitoringService.collect_usage, every_seconds=10.0),
        PeriodicTask(run=MonitoringService.judge_classes, every_seconds=30.0),
        PeriodicTask(run=MonitoringService.purge, every_seconds=60.0),
    ),
)
