"""What can be done with jobs: a part for each noun, composed in `service.py`."""

from aitbc.modules.ai.service.service import AiService
from aitbc.modules.ai.service.settings import AiSettings

__all__ = ["AiService", "AiSettings"]
