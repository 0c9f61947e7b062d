"""The explorer and the chain as the older coordinator showed them."""

from collections.abc import Sequence

from litestar import Controller, get
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from aitbc.kernel.legacy.amounts import amount_of
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.paging import Limit, Offset, OffsetItems, Word, offset_items
from aitbc.kernel.primitives.money import ASSET
from aitbc.modules.trading.legacy.caller import READ, Trading, is_ours, require_ours
from aitbc.modules.trading.legacy.explorer import newest_receipts
from aitbc.modules.trading.legacy.shapes import LegacyBlock, LegacyReceipt, LegacyTransaction, block_of, transaction_of
from aitbc.modules.trading.models.views import AccountEntry, AccountView

RECENT = 5


class LegacyAddress(Struct, frozen=True, kw_only=True):
    """An account and the last that happened on it."""

    address: str
    balance: str
    """With six decimals."""
    txCount: int  # noqa: N815 - the wire's names
    lastActive: str | None  # noqa: N815
    recentTransactions: tuple[str, ...]  # noqa: N815


class ReceiptItems(Struct, frozen=True, kw_only=True):
    """Receipts, newest first."""

    jobId: str  # noqa: N815 - the wire's name
    items: tuple[LegacyReceipt, ...]


class ChainStatus(Struct, frozen=True, kw_only=True):
    """How far the chain has come."""

    status: str
    available: bool
    height: int | None
    hash: str | None
    timestamp: str | None
    tx_count: int


class Validator(Struct, frozen=True, kw_only=True):
    """A key that signs blocks."""

    address: str
    status: str


class Validators(Struct, frozen=True, kw_only=True):
    """The keys that sign blocks."""

    validators: tuple[Validator, ...]
    total: int


class LegacyBalance(Struct, frozen=True, kw_only=True):
    """An account's money."""

    address: str
    balance: float
    available: float
    held: float
    currency: str
    nonce: int
    """How many entries it has."""


class OffsetBlocks(Struct, frozen=True, kw_only=True):
    """Blocks, newest first, of all that there are."""

    blocks: tuple[LegacyBlock, ...]
    total: int
    limit: int
    offset: int


class Supply(Struct, frozen=True, kw_only=True):
    """How much money there is."""

    total_supply: float
    """All that was ever given out, less what was taken back."""
    circulating_supply: float
    """What accounts own, held or available: all but the fees."""
    unit: str


class CoordinatorExplorer(Controller):
    """Blocks, transactions, addresses and receipts."""

    @get("/v1/explorer/blocks", opt=READ)
    async def blocks(
        self, trading: Trading, limit: FromQuery[Limit] = 20, offset: FromQuery[Offset] = 0, chain_id: Word = None
    ) -> OffsetItems[LegacyBlock]:
        """Blocks from the newest on."""
        require_ours(chain_id)
        found = await trading.explorer.blocks(limit=offset + limit + 1, before=None)
        return offset_items(found, offset, limit, block_of)

    @get("/v1/explorer/transactions", opt=READ)
    async def transactions(
        self, trading: Trading, limit: FromQuery[Limit] = 50, offset: FromQuery[Offset] = 0
    ) -> OffsetItems[LegacyTransaction]:
        """Transactions from the newest on."""
        found = await trading.explorer.transactions(limit=offset + limit + 1, before=None)
        return offset_items(found, offset, limit, transaction_of)

    @get("/v1/explorer/addresses", opt=READ)
    async def addresses(
        self, trading: Trading, who: Who, limit: FromQuery[Limit] = 50, offset: FromQuery[Offset] = 0
    ) -> OffsetItems[LegacyAddress]:
        """The caller's own account; every one for the operator."""
        found = await trading.explorer.visible_accounts(who, limit=offset + limit + 1)
        last = await trading.explorer.last_entries([account.account for account in found[offset:]], RECENT)
        return offset_items(found, offset, limit, lambda account: _address(account, last[account.account]))

    @get("/v1/explorer/receipts", opt=READ)
    async def receipts(
        self, trading: Trading, job_id: Word = None, limit: FromQuery[Limit] = 50, offset: FromQuery[Offset] = 0
    ) -> ReceiptItems:
        """Receipts from the newest on, or that of a job."""
        found = await newest_receipts(trading, offset + limit, job_id)
        return ReceiptItems(jobId=job_id or "all", items=found[offset:])


class CoordinatorChain(Controller):
    """The chain itself."""

    @get(["/v1/status", "/v1/sync-status"], opt=READ)
    async def status(self, trading: Trading, chain_id: Word = None) -> ChainStatus:
        """Its head; it is never behind, since this is where it is made. Another chain is not available here."""
        if not is_ours(chain_id):
            return ChainStatus(status="unknown", available=False, height=None, hash=None, timestamp=None, tx_count=0)
        found = await trading.explorer.blocks(limit=1, before=None)
        head = found[0] if found else None
        return ChainStatus(
            status="connected",
            available=True,
            height=None if head is None else head.height,
            hash=None if head is None else head.hash,
            timestamp=None if head is None else head.time,
            tx_count=0 if head is None else head.first_sequence + head.records,
        )

    @get(["/v1/accounts/{address:str}", "/rpc/balance/{address:str}", "/rpc/getBalance/{address:str}"], opt=READ)
    async def account(self, trading: Trading, who: Who, address: FromPath[str], chain_id: Word = None) -> LegacyBalance:
        """An account's money: the caller's own, any for the operator."""
        require_ours(chain_id)
        found = await trading.explorer.account(who, address)
        return LegacyBalance(
            address=found.account,
            balance=float(found.owned),
            available=float(found.available),
            held=float(found.held),
            currency=ASSET,
            nonce=found.entries,
        )

    @get("/v1/validators", opt=READ)
    async def validators(self, trading: Trading) -> Validators:
        """The keys that sign or signed blocks: the newest is the one in use."""
        keys = await trading.explorer.keys()
        found = tuple(
            Validator(address=key.public_key, status="active" if key is keys[-1] else "retired") for key in keys
        )
        return Validators(validators=found, total=len(found))

    @get("/v1/blocks", opt=READ)
    async def page(self, trading: Trading, limit: FromQuery[Limit] = 20, offset: FromQuery[Offset] = 0) -> OffsetBlocks:
        """Blocks from the newest on, and how many there are."""
        height = await trading.explorer.height()
        found = await trading.explorer.blocks(limit=offset + limit, before=None)
        blocks = tuple(block_of(block) for block in found[offset:])
        return OffsetBlocks(blocks=blocks, total=0 if height is None else height + 1, limit=limit, offset=offset)

    @get("/v1/supply", opt=READ)
    async def supply(self, trading: Trading) -> Supply:
        """How much play money there is, and how much of it accounts own."""
        issued, fees = await trading.explorer.supply()
        return Supply(total_supply=amount_of(issued), circulating_supply=amount_of(issued - fees), unit=ASSET)


def _address(account: AccountView, recent: Sequence[AccountEntry]) -> LegacyAddress:
    return LegacyAddress(
        address=account.account,
        balance=f"{float(account.owned):.6f}",
        txCount=account.entries,
        lastActive=recent[0].at.isoformat() if recent else None,
        recentTransactions=tuple(entry.transaction for entry in recent),
    )
