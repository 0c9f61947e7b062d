"""What trading does: the ledger and the chain."""

from aitbc.modules.trading.service.service import TradingService
from aitbc.modules.trading.service.settings import TradingSettings

__all__ = ["TradingService", "TradingSettings"]
