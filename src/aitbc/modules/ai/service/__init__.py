"""What can be done with jobs: one noun a file, one service."""

from aitbc.modules.ai.service.office import AiSettings
from aitbc.modules.ai.service.service import AiService

__all__ = ["AiService", "AiSettings"]
