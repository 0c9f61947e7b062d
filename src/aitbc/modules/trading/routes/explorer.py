"""The HTTP of the chain: transactions, receipts, blocks, addresses, search, export."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.models.views import (
    AccountView,
    Block,
    BlockRecord,
    Found,
    LedgerTransaction,
    NodeKey,
    Receipt,
    ReceiptLine,
)
from aitbc.modules.trading.routes.positions import number
from aitbc.modules.trading.service.explorer import (
    BlockNotFound,
    Explorer,
    NothingFound,
    ReceiptNotFound,
    TransactionNotFound,
)

Id = Annotated[str | None, Meta(max_length=40)]
Wanted = Annotated[str, Meta(min_length=1, max_length=100)]


class RecordController(Controller):
    """Transactions and receipts, as the chain has them."""

    tags = ("explorer",)

    @get(
        "/transactions",
        operation_id="list_transactions",
        summary="List transactions",
        opt={"permission": "chain:read"},
    )
    async def transactions(
        self,
        explorer: NamedDependency[Explorer],
        reference: FromQuery[Id] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[LedgerTransaction]:
        """List transactions from the newest on; with `reference`, those of a job or a hold."""
        bound = [reference or ""]
        before = after_id("transactions", cursor, "txn", bound_to=bound)
        found = await explorer.transactions(limit=limit + 1, before=before, reference=reference)
        return Page.of("transactions", found, limit, lambda transaction: transaction.id, bound_to=bound)

    @get(
        "/transactions/{transaction:str}",
        operation_id="get_transaction",
        summary="Read a transaction",
        opt={"permission": "chain:read", "errors": (TransactionNotFound,)},
    )
    async def transaction(self, explorer: NamedDependency[Explorer], transaction: FromPath[str]) -> LedgerTransaction:
        """Read a transaction with the balances before and after it, and its place in the chain."""
        return await explorer.transaction(transaction)

    @get("/receipts", operation_id="list_receipts", summary="List receipts", opt={"permission": "chain:read"})
    async def receipts(
        self,
        explorer: NamedDependency[Explorer],
        job: FromQuery[Id] = None,
        payer: FromQuery[Id] = None,
        miner: FromQuery[Id] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ReceiptLine]:
        """List receipts from the newest on: all, or those of a job, of a payer, of a miner."""
        bound = [job or "", payer or "", miner or ""]
        before = None
        if cursor is not None:
            at, id_ = decode_cursor("receipts", cursor, datetime, str, bound_to=bound)
            if not ids.is_id("rcpt", id_) or at.tzinfo is None:
                raise InvalidCursor
            before = (at, id_)
        found = await explorer.receipts(limit=limit + 1, before=before, job=job, payer=payer, miner=miner)
        return Page.of("receipts", found, limit, lambda receipt: (receipt.issued_at, receipt.id), bound_to=bound)

    @get(
        "/receipts/{receipt:str}",
        operation_id="get_receipt",
        summary="Read a receipt",
        opt={"permission": "chain:read", "errors": (ReceiptNotFound,)},
    )
    async def receipt(self, explorer: NamedDependency[Explorer], receipt: FromPath[str]) -> Receipt:
        """Read a receipt with its proof of inclusion.

        Saved as it is, `aitbc receipt verify` checks it without a server.
        """
        return await explorer.receipt(receipt)

    @get(
        "/addresses/{address:str}",
        operation_id="get_address",
        summary="Read an address",
        opt={"permission": "chain:read", "errors": (HolderNotFound,)},
    )
    async def address(
        self, explorer: NamedDependency[Explorer], who: NamedDependency[Principal], address: FromPath[str]
    ) -> AccountView:
        """Read an address: its balance, what it earned and spent, how many entries it has.

        Your own account, any for an admin; `system` is the platform's own, where fees go, and open to all.
        """
        return await explorer.account(who, address)

    @get(
        "/search",
        operation_id="search_chain",
        summary="Search",
        opt={"permission": "chain:read", "errors": (NothingFound,)},
    )
    async def search(
        self, explorer: NamedDependency[Explorer], who: NamedDependency[Principal], q: FromQuery[Wanted]
    ) -> Found:
        """Find what a height, a block's hash or any id names, and the path it is read at."""
        return await explorer.search(who, q)


class ChainController(Controller):
    """Blocks, keys, and everything as one stream."""

    tags = ("explorer",)

    @get("/blocks", operation_id="list_blocks", summary="List blocks", opt={"permission": "chain:read"})
    async def blocks(
        self, explorer: NamedDependency[Explorer], limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[Block]:
        """List blocks from the newest on."""
        before = number("blocks", cursor)
        found = await explorer.blocks(limit=limit + 1, before=before)
        return Page.of("blocks", found, limit, lambda block: (block.height,))

    @get(
        "/blocks/{block:str}",
        operation_id="get_block",
        summary="Read a block",
        opt={"permission": "chain:read", "errors": (BlockNotFound,)},
    )
    async def block(self, explorer: NamedDependency[Explorer], block: FromPath[str]) -> Block:
        """Read a block by its height or its hash; `head` is the last one."""
        return await explorer.block(block)

    @get(
        "/blocks/{block:str}/records",
        operation_id="list_block_records",
        summary="List a block's records",
        opt={"permission": "chain:read", "errors": (BlockNotFound,)},
    )
    async def block_records(
        self,
        explorer: NamedDependency[Explorer],
        block: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[BlockRecord]:
        """List the records of a block in the order in which they are sealed."""
        after = number("block_records", cursor)
        found = await explorer.block_records(block, limit=limit + 1, after=after)
        return Page.of("block_records", found, limit, lambda record: (record.sequence,))

    @get(
        "/chain/keys", operation_id="list_node_keys", summary="Read the node's public keys", opt={"permission": PUBLIC}
    )
    async def keys(self, explorer: NamedDependency[Explorer]) -> Page[NodeKey]:
        """Read the public keys that the node signs, or once signed, receipts and blocks with, oldest first.

        One page has them all.
        """
        return Page(data=await explorer.keys())

    @get(
        "/chain/export",
        operation_id="export_chain",
        summary="Export the chain",
        media_type="application/jsonl",
        opt={"permission": "chain:read", "lasts": True},
    )
    async def export(self, explorer: NamedDependency[Explorer]) -> Stream:
        """Export the whole chain up to its last block, one JSON value a line, for `aitbc chain verify`.

        The last line says where the export ends; without it the file was cut short.
        """
        return Stream(explorer.export(), media_type="application/jsonl")
