"""What can be done in monitoring: one noun a file, one service."""

from aitbc.modules.monitoring.service.service import MonitoringService
from aitbc.modules.monitoring.service.settings import MonitoringSettings

__all__ = ["MonitoringService", "MonitoringSettings"]
