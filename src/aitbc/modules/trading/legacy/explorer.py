"""The explorer on the trading service's own port."""

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from aitbc.modules.trading.legacy.shapes import (
    CHAIN,
    READ,
    BlockPage,
    ChainId,
    Count,
    Name,
    OlderBlock,
    OlderReceipt,
    OlderTransaction,
    ReceiptPage,
    block_of,
    receipt_of,
    transaction_of,
)
from aitbc.modules.trading.service import TradingService


class PlainBlocks(Struct, frozen=True, kw_only=True):
    """Blocks, newest first, of all that there are; the chain is not named."""

    blocks: tuple[OlderBlock, ...]
    limit: int
    total: int


class PlainReceipts(Struct, frozen=True, kw_only=True):
    """Receipts, newest first, of all that there are."""

    receipts: tuple[OlderReceipt, ...]
    limit: int
    total: int


class OlderExplorer(Controller):
    """Blocks, receipts and transactions."""

    @get("/blocks", opt=READ)
    async def plain_blocks(self, trading: NamedDependency[TradingService], limit: FromQuery[Count] = 10) -> PlainBlocks:
        """The newest blocks."""
        page = await newest_blocks(trading, limit, None)
        return PlainBlocks(blocks=page.blocks, limit=limit, total=page.total)

    @get(["/v1/explorer/blocks", "/api/v1/blocks"], opt=READ)
    async def blocks(
        self, trading: NamedDependency[TradingService], limit: FromQuery[Count] = 10, chain_id: ChainId = None
    ) -> BlockPage:
        """The newest blocks of the chain."""
        return await newest_blocks(trading, limit, chain_id)

    @get("/blocks/{block:str}", opt=READ)
    async def block(self, trading: NamedDependency[TradingService], block: FromPath[str]) -> OlderBlock:
        """A block by height or hash."""
        return block_of(await trading.explorer.block(block))

    @get("/receipts", opt=READ)
    async def plain_receipts(
        self, trading: NamedDependency[TradingService], limit: FromQuery[Count] = 10
    ) -> PlainReceipts:
        """The newest receipts."""
        page = await newest_receipts(trading, limit, None)
        return PlainReceipts(receipts=page.receipts, limit=limit, total=page.total)

    @get("/v1/explorer/receipts", opt=READ)
    async def receipts(
        self,
        trading: NamedDependency[TradingService],
        limit: FromQuery[Count] = 10,
        job_id: FromQuery[Name] = None,
        status: FromQuery[Name] = None,
    ) -> ReceiptPage:
        """The newest receipts, or that of a job; every receipt is of a job that succeeded."""
        if status is not None and status.lower() not in ("succeeded", "completed"):
            return ReceiptPage(receipts=(), limit=limit, job_id=job_id, total=0)
        return await newest_receipts(trading, limit, job_id)

    @get("/transactions/{transaction:str}", opt=READ)
    async def transaction(
        self, trading: NamedDependency[TradingService], transaction: FromPath[str]
    ) -> OlderTransaction:
        """A transaction by the hash that lists give it."""
        return transaction_of(await trading.explorer.transaction(transaction))

    @get("/explorer/transactions/{transaction:str}", opt=READ)
    async def transaction_of_chain(
        self, trading: NamedDependency[TradingService], transaction: FromPath[str], chain_id: ChainId = None
    ) -> OlderTransaction:
        """The same; there is one chain, whatever name it is given."""
        del chain_id
        return transaction_of(await trading.explorer.transaction(transaction))


async def newest_blocks(trading: TradingService, limit: int, chain_id: str | None) -> BlockPage:
    """The newest blocks, and how many there are."""
    height = await trading.explorer.height()
    found = await trading.explorer.blocks(limit=limit, before=None)
    return BlockPage(
        blocks=tuple(block_of(block) for block in found),
        limit=limit,
        chain_id=chain_id or CHAIN,
        total=0 if height is None else height + 1,
    )


async def newest_receipts(trading: TradingService, limit: int, job: str | None) -> ReceiptPage:
    """The newest receipts, and how many there are; of one job there is one at most."""
    found = await older_receipts(trading, limit, job)
    total = len(found) if job is not None else await trading.explorer.receipt_count()
    return ReceiptPage(receipts=found, limit=limit, job_id=job, total=total)


async def older_receipts(trading: TradingService, limit: int, job: str | None) -> tuple[OlderReceipt, ...]:
    """Receipts in the older shape."""
    found = await trading.explorer.signed_receipts(limit=limit, job=job)
    return tuple(receipt_of(line, signed) for line, signed in found)
