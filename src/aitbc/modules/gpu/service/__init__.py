"""The service of gpu and its settings."""

from aitbc.modules.gpu.service.service import GpuService
from aitbc.modules.gpu.service.settings import GpuSettings

__all__ = ["GpuService", "GpuSettings"]
