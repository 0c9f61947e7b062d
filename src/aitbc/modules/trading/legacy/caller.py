"""What the legacy paths take, and what they ask of a caller's key."""

from litestar.di import NamedDependency

from aitbc.modules.trading.service import TradingService

Trading = NamedDependency[TradingService]
"""The parameter `trading` of a handler."""
READ = {"permission": "chain:read"}
