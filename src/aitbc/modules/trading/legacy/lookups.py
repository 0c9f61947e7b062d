"""A single block or transaction, which both the module's port and the coordinator show in the same shape."""

from litestar import Controller, get
from litestar.params import FromPath

from aitbc.kernel.legacy.paging import Word
from aitbc.modules.trading.legacy.caller import READ, Trading, require_ours
from aitbc.modules.trading.legacy.shapes import LegacyBlock, LegacyTransaction, block_of, transaction_of


def lookups(*, blocks: list[str], transactions: list[str]) -> type[Controller]:
    """The controller, at these paths; each ends in `{block:str}` or `{transaction:str}`."""

    class LookupController(Controller):
        """Blocks and transactions by their names, of the one chain that there is."""

        @get(blocks, opt=READ)
        async def block(self, trading: Trading, block: FromPath[str]) -> LegacyBlock:
            """A block by height or hash."""
            return block_of(await trading.explorer.block(block))

        @get(transactions, opt=READ)
        async def transaction(
            self, trading: Trading, transaction: FromPath[str], chain_id: Word = None
        ) -> LegacyTransaction:
            """A transaction by the hash that lists give it."""
            require_ours(chain_id)
            return transaction_of(await trading.explorer.transaction(transaction))

    return LookupController


LegacyLookups = lookups(
    blocks=["/blocks/{block:str}"],
    transactions=["/transactions/{transaction:str}", "/explorer/transactions/{transaction:str}"],
)
CoordinatorLookups = lookups(
    blocks=["/v1/blocks/{block:str}", "/v1/blocks/hash/{block:str}"],
    transactions=["/v1/explorer/transactions/{transaction:str}", "/v1/transactions/{transaction:str}"],
)
