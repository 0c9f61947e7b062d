"""The rows of the ledger that a transaction has locked, and what its rules make of them."""

from datetime import datetime
from uuid import UUID, uuid5

from msgspec import Struct

from aitbc.kernel.crypto.entry_accounts import account_key
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import ASSET
from aitbc.modules.trading.api import Hold, Settlement
from aitbc.modules.trading.models.records import ReceiptClaims

SYSTEM = "system"
ISSUANCE, ESCROW, FEES, TREASURY = (UUID(int=number) for number in (1, 2, 3, 4))
"""Where play money comes from, where held money lies, where fees go, and what governance may spend."""
SYSTEM_IDS = {"issuance": ISSUANCE, "escrow": ESCROW, "fees": FEES, "treasury": TREASURY}
PURSES = UUID("0d3f6a3e-6f0b-4c43-9a3f-2a1c5b8f7e10")
"""The namespace of the ids of accounts for other purposes than `main`, or in other assets than AITBC."""


def account_id(owner: str, purpose: str = "main", asset: str = ASSET) -> UUID:
    """The id of an account, by its owner (`system`, or a well-formed `acct_…`), purpose and asset."""
    name = f"{owner}/{purpose}"
    if asset != ASSET:
        return uuid5(PURSES, f"{name}:{asset}")
    if owner == SYSTEM:
        return SYSTEM_IDS[purpose]
    return ids.decode("acct", owner) if purpose == "main" else uuid5(PURSES, name)


class Account(Struct):
    """An account as it was locked, and as this book leaves it."""

    id: UUID
    owner: str
    purpose: str = "main"
    balance_units: int = 0
    held_units: int = 0
    earned_units: int = 0
    spent_units: int = 0
    version: int = 0
    budgets: int = 0
    """How many budgets limit it."""
    asset: str = ASSET
    """What it is counted in."""
    version_found: int = 0
    """The version that was locked."""

    @property
    def name(self) -> str:
        """Its name in records."""
        return f"{self.owner}/{self.purpose}"

    @property
    def key(self) -> str:
        """Its name with the asset, as replaying records tells accounts apart."""
        return account_key(self.name, self.asset)


class HeldMoney(Struct):
    """A hold as it was found, and as this book leaves it."""

    id: str
    payer: str
    amount_units: int
    fee_basis_points: int
    state: str
    reference: str
    placed_at: datetime
    expires_at: datetime
    placed_by: str = ""
    """The transaction that placed it, when it was placed or raised by this book."""
    ended_at: datetime | None = None
    ended_by: str | None = None
    reason: str | None = None
    price_units: int | None = None
    budgets: str | None = None
    """The budgets, and their periods, that count it."""
    key: str | None = None
    """The API key that asked for it."""

    def view(self) -> Hold:
        """What others see of it."""
        return Hold(
            id=self.id,
            payer=self.payer,
            amount_units=self.amount_units,
            state=self.state,
            reference=self.reference,
            placed_at=self.placed_at,
            expires_at=self.expires_at,
        )


class Entry(Struct):
    """One account's part in a posting."""

    transaction_id: str
    position: int
    account_id: UUID
    amount_units: int
    balance_after_units: int
    account_version: int
    asset: str | None = None
    """None for AITBC."""


class Posting(Struct):
    """A transaction that this book made."""

    id: str
    kind: str
    hold: str | None
    reference: str | None
    reason: str | None
    body: str
    digest: bytes
    entries: list[Entry]


class Issued(Struct):
    """A receipt that this book made."""

    id: str
    transaction_id: str
    payer: str
    miner: str
    miner_account: str
    price_units: int
    fee_units: int
    earned_units: int
    body: str
    digest: bytes


class Settled(Struct, frozen=True):
    """What a settlement did, and what its receipt says, for one that is repeated."""

    settlement: Settlement
    claims: ReceiptClaims
