"""What can be done in governance: one noun a file, one service."""

from aitbc.modules.governance.service.service import GovernanceService
from aitbc.modules.governance.service.settings import GovernanceSettings

__all__ = ["GovernanceService", "GovernanceSettings"]
