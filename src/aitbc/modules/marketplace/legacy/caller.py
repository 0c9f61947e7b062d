"""What the legacy paths ask of a caller's key, and where clients put the name of their wallet."""

from litestar.di import NamedDependency

from aitbc.kernel.legacy.caller import CallerName
from aitbc.modules.marketplace.service import MarketplaceService

Marketplace = NamedDependency[MarketplaceService]
"""The parameter `marketplace` of a handler."""
WALLET = CallerName(header="x-wallet", field="wallet")
READ = {"permission": "market:read"}
WRITE_ONCE = {"permission": "market:write"}
"""What takes an Idempotency-Key."""
WRITE = WRITE_ONCE | {"idempotency": "natural"}
