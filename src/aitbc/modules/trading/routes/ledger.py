"""The HTTP of the ledger: balances, statements, deposits, the faucet, corrections, verification."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import ASSET, InvalidAmount, parse, render
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.api import Hold, HolderNotFound, InsufficientFunds
from aitbc.modules.trading.models.views import AccountEntry, AccountView, HoldView, LedgerReport, LedgerTransaction
from aitbc.modules.trading.routes.assets import AssetCode
from aitbc.modules.trading.routes.positions import moment_and_id, number
from aitbc.modules.trading.service.assets import AssetNotFound
from aitbc.modules.trading.service.deposits import Deposits, FaucetEmpty, FaucetOff, NotCorrectable
from aitbc.modules.trading.service.explorer import Explorer, TransactionNotFound
from aitbc.modules.trading.service.fees import FeeRate, Fees
from aitbc.modules.trading.service.ledger import Ledger

Amount = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(
        description="AITBC as a decimal string with at most eight places.",
        extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["0.05", "10"]},
    ),
]
AccountId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^acct_[0-9a-z]{26}\Z"),
    Meta(
        description="The account.",
        extra_json_schema={"pattern": "^acct_[0-9a-z]{26}$", "examples": ["acct_01kb2c3d4e5f6g7h8j9kamnpqr"]},
    ),
]


class MakeDeposit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Play money for an account."""

    account: AccountId
    """Who gets it."""
    amount: Amount
    """How much. For example `12.5`."""
    reason: Name | None = None
    """Why, for people. For example `welcome`."""
    asset: AssetCode = ASSET
    """Of what. For example `AITBC`."""


class TakeFromFaucet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Play money for oneself."""

    amount: Amount
    """How much, in AITBC. For example `12.5`."""


class CorrectTransaction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a transaction is undone."""

    reason: Name
    """Why, for both sides. For example `paid by mistake`."""


class FeeRates(Struct, frozen=True, kw_only=True):
    """The platform's share of a price, in 1/10 000: now, and every rate there was or is planned, oldest first."""

    basis_points: int
    """The share now, in 1/10 000. For example `250`."""
    rates: tuple[FeeRate, ...]
    """Every rate."""


class LedgerController(Controller):
    """Balances and what changes them."""

    tags = ("ledger",)

    @get(
        "/accounts",
        operation_id="list_ledger_accounts",
        summary="List the accounts of the ledger",
        opt={"permission": "ledger:audit"},
    )
    async def accounts(
        self, explorer: NamedDependency[Explorer], limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[AccountView]:
        """List every account with its money, in the order of ids: for those who run the platform."""
        after = after_id("ledger_accounts", cursor, "acct")
        found = await explorer.accounts(limit=limit + 1, after=after)
        return Page.of("ledger_accounts", found, limit, lambda account: account.account)

    @get(
        "/accounts/{account:str}",
        operation_id="get_balance",
        summary="Read a balance",
        opt={"permission": "ledger:read", "errors": (HolderNotFound,)},
    )
    async def balance(
        self, explorer: NamedDependency[Explorer], who: NamedDependency[Principal], account: FromPath[str]
    ) -> AccountView:
        """Read what an account owns: available, and held for jobs under way. Yours, or any for an admin."""
        return await explorer.account(who, account)

    @get(
        "/accounts/{account:str}/entries",
        operation_id="list_entries",
        summary="Read a statement",
        opt={"permission": "ledger:read", "errors": (HolderNotFound,)},
    )
    async def entries(
        self,
        explorer: NamedDependency[Explorer],
        who: NamedDependency[Principal],
        account: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
        asset: FromQuery[AssetCode] = ASSET,
    ) -> Page[AccountEntry]:
        """List an account's entries in an asset from the newest on, each with the balance before and after it."""
        before = number("entries", cursor)
        found = await explorer.entries(who, account, limit=limit + 1, before=before, asset=asset)
        return Page.of("entries", found, limit, lambda entry: (entry.version,))

    @get(
        "/holds",
        operation_id="list_open_holds",
        summary="List the open holds",
        opt={"permission": "ledger:audit", "errors": (InvalidCursor,)},
    )
    async def open_holds(
        self, ledger: NamedDependency[Ledger], limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[HoldView]:
        """List the money that is set aside now, the oldest first: for those who run the platform."""
        found = await ledger.open_holds(now(), limit + 1, moment_and_id("open_holds", "hold", cursor))
        return Page.of(
            "open_holds", [_hold_view(hold) for hold in found], limit, lambda hold: (hold.placed_at, hold.id)
        )

    @post(
        "/deposits",
        operation_id="make_deposit",
        summary="Give an account play money",
        opt={
            "permission": "ledger:write",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, HolderNotFound, AssetNotFound),
        },
    )
    async def deposit(
        self,
        deposits: NamedDependency[Deposits],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[MakeDeposit],
    ) -> LedgerTransaction:
        """Give an account play money out of the issuance account of its asset. The audit trail notes who did it."""
        return await deposits.deposit(who, data.account, parse(data.amount), data.reason, once, data.asset)

    @post(
        "/faucet",
        operation_id="use_faucet",
        summary="Take play money for yourself",
        opt={
            "permission": "faucet:use",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, FaucetOff, FaucetEmpty),
        },
    )
    async def faucet(
        self,
        deposits: NamedDependency[Deposits],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[TakeFromFaucet],
    ) -> LedgerTransaction:
        """Take play money for the caller's own account, up to a daily share, where the platform allows it."""
        return await deposits.faucet(who, parse(data.amount), once)

    @post(
        "/transactions/{transaction:str}/correction",
        operation_id="correct_transaction",
        summary="Undo a transaction",
        opt={
            "permission": "ledger:write",
            "idempotency": "required",
            "errors": (TransactionNotFound, NotCorrectable, InsufficientFunds),
        },
    )
    async def correct(
        self,
        deposits: NamedDependency[Deposits],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        transaction: FromPath[str],
        data: JSONBody[CorrectTransaction],
    ) -> LedgerTransaction:
        """Undo a deposit, a faucet grant or a settlement by a transaction of its own; a second run changes nothing."""
        return await deposits.correct(who, transaction, data.reason, once)

    @get("/fees", operation_id="get_fees", summary="Read the fee", opt={"permission": "chain:read"})
    async def fees(self, fees: NamedDependency[Fees]) -> FeeRates:
        """Read the platform's share of a price, and since when it holds.

        A hold keeps the rate that it was placed at.
        """
        return FeeRates(basis_points=await fees.in_force(), rates=(*await fees.rates(), *fees.voted()))

    @post(
        "/ledger/verify",
        operation_id="verify_ledger",
        summary="Verify the ledger",
        status_code=200,
        opt={"permission": "ledger:audit", "idempotency": "natural"},
    )
    async def verify(self, ledger: NamedDependency[Ledger]) -> LedgerReport:
        """Recompute blocks, records, entries, holds, receipts and balances from the first record on.

        Answers what was covered, and names the first thing that does not hold.
        """
        return await ledger.verify()


def _hold_view(hold: Hold) -> HoldView:
    return HoldView(
        id=hold.id,
        payer=hold.payer,
        amount=render(hold.amount_units),
        reference=hold.reference,
        placed_at=hold.placed_at,
        expires_at=hold.expires_at,
    )
