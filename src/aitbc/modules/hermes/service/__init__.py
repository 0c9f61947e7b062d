"""What can be done in hermes: one noun a file, one service."""

from aitbc.modules.hermes.service.service import HermesService
from aitbc.modules.hermes.service.settings import HermesSettings

__all__ = ["HermesService", "HermesSettings"]
