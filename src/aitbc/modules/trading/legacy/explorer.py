"""The explorer on the trading service's own port."""

from litestar import Controller, get
from litestar.params import FromQuery
from msgspec import UNSET, UnsetType

from aitbc.kernel.legacy.paging import Limit, Word
from aitbc.kernel.legacy.states import StateNames
from aitbc.modules.trading.legacy.caller import CHAIN, READ, Trading, require_ours
from aitbc.modules.trading.legacy.shapes import BlockPage, LegacyReceipt, ReceiptPage, block_of, receipt_of
from aitbc.modules.trading.service import TradingService

SUCCEEDED = "succeeded"
JOB_STATES = StateNames(
    {
        **{state: state for state in ("queued", "leased", "running", SUCCEEDED, "failed", "canceled", "expired")},
        "returned": "refunded",
    },
    aliases={**dict.fromkeys(("completed", "paid", "released", "issued"), SUCCEEDED)}
    | {"pending": "queued", "escrowed": "queued", "cancelled": "canceled"},
)
"""The words that clients have for the state of a receipt's job or of its payment."""


class LegacyExplorer(Controller):
    """The newest blocks and receipts."""

    @get("/blocks", opt=READ)
    async def plain_blocks(self, trading: Trading, limit: FromQuery[Limit] = 10) -> BlockPage:
        """The newest blocks; the chain is not named."""
        return await newest_blocks(trading, limit, UNSET)

    @get(["/v1/explorer/blocks", "/api/v1/blocks"], opt=READ)
    async def blocks(self, trading: Trading, limit: FromQuery[Limit] = 10, chain_id: Word = None) -> BlockPage:
        """The newest blocks of the chain."""
        require_ours(chain_id)
        return await newest_blocks(trading, limit, CHAIN)

    @get("/receipts", opt=READ)
    async def plain_receipts(self, trading: Trading, limit: FromQuery[Limit] = 10) -> ReceiptPage:
        """The newest receipts."""
        total = await trading.explorer.receipt_count()
        return ReceiptPage(receipts=await newest_receipts(trading, limit, None), limit=limit, total=total)

    @get("/v1/explorer/receipts", opt=READ)
    async def receipts(
        self, trading: Trading, limit: FromQuery[Limit] = 10, job_id: Word = None, status: Word = None
    ) -> ReceiptPage:
        """The newest receipts, or that of a job; every receipt is of a job that succeeded and was paid."""
        if status is not None and SUCCEEDED not in JOB_STATES.known_states(status, "?status"):
            return ReceiptPage(receipts=(), limit=limit, job_id=job_id, total=0)
        found = await newest_receipts(trading, limit, job_id)
        total = len(found) if job_id is not None else await trading.explorer.receipt_count()
        return ReceiptPage(receipts=found, limit=limit, job_id=job_id, total=total)


async def newest_blocks(trading: TradingService, limit: int, chain_id: str | UnsetType) -> BlockPage:
    """The newest blocks, and how many there are."""
    height = await trading.explorer.height()
    found = await trading.explorer.blocks(limit=limit, before=None)
    blocks = tuple(block_of(block) for block in found)
    return BlockPage(blocks=blocks, limit=limit, chain_id=chain_id, total=0 if height is None else height + 1)


async def newest_receipts(trading: TradingService, limit: int, job: str | None) -> tuple[LegacyReceipt, ...]:
    """The newest receipts; of one job there is one at most."""
    found = await trading.explorer.signed_receipts(limit=limit, job=job)
    return tuple(receipt_of(line, signed) for line, signed in found)
