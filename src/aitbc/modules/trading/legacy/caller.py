"""What the legacy paths take, and what they ask of a caller's key."""

from litestar.di import NamedDependency

from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.trading.service import TradingService

Trading = NamedDependency[TradingService]
"""The parameter `trading` of a handler."""
READ = {"permission": "chain:read"}
CHAIN = "ait-devnet"
"""The name that legacy clients give to a chain that they do not name: this one, the only one there is."""


class ChainNotFound(NotFound):
    """There is no such chain here; the one that is here is called `ait-devnet`, or not named at all."""

    code = "chain_not_found"


def is_ours(chain_id: str | None) -> bool:
    """Whether a client means the chain of this node."""
    return chain_id in (None, "", CHAIN)


def require_ours(chain_id: str | None) -> None:
    """Raise `ChainNotFound` for another chain than the one of this node: what is shown is never another's."""
    if not is_ours(chain_id):
        raise ChainNotFound
