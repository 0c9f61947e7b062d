"""The face of trading: all that the other modules may know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import UNSET, Struct, UnsetType

from aitbc.kernel.primitives.errors import Conflict, NotFound, PaymentRequired


class PlaceHold(Struct, frozen=True, kw_only=True):
    """Reserve money of a payer until a deadline. The caller makes the id, so that asking twice is harmless."""

    hold: str
    payer: str
    amount_units: int
    expires_at: datetime
    reference: str
    """What it is for: a job's id."""
    key: str | None = None
    """The API key that asked for it: budgets of that key count it, and usage is reported by it."""
    model: str | None = None
    """The model that it is for: budgets for that model count it."""
    fee_basis_points: int | UnsetType = UNSET
    """The platform's share of what is paid out of it, in 1/10 000; unset for the rate in force."""
    is_spent: bool = True
    """Whether budgets count it: not where the payer did not ask for it, as with what a dispute sets aside."""


class RaiseHold(Struct, frozen=True, kw_only=True):
    """Set more money aside for what a hold was placed for. Asking twice is harmless."""

    hold: str
    payer: str
    amount_units: int
    """All that is to be held from then on; a hold that is as large already stays as it is."""


class SettleHold(Struct, frozen=True, kw_only=True):
    """Pay a miner out of a hold, once; what the price leaves over returns to the payer."""

    hold: str
    job: str
    attempt: str
    token: int
    """The fencing token of the lease under which the work was done."""
    payer: str
    miner: str
    miner_account: str
    kind: str
    input_digest: str
    output_digest: str
    unit: str
    """What is metered: `token`, `pixel`, `second`, …"""
    units: int
    price_units: int
    """The price in minor units of money; never above the hold."""
    started_at: datetime
    finished_at: datetime
    miner_key: str
    miner_signature: str
    """The miner's signature over the canonical work statement, see `aitbc.kernel.crypto.signing.work_statement`."""
    offer: str | UnsetType = UNSET
    """The offer at which the work was done; unset where the platform's price held."""
    ask_units: int | UnsetType = UNSET
    """What that offer asked for one unit."""
    devices: tuple[dict[str, Any], ...] | UnsetType = UNSET
    """The GPUs that were reserved for the work, with the fields of a receipt's; unset where none were."""
    verification: dict[str, Any] | UnsetType = UNSET
    """How the work was verified, with the fields of a receipt's; unset where the job asked for nothing."""


class PayRent(Struct, frozen=True, kw_only=True):
    """Pay the owner of something that was rented out of a hold, once; what the price leaves over returns to the payer.

    Nobody delivers anything that a miner could sign, so there is no receipt: the transaction itself is the record.
    """

    hold: str
    payer: str
    owner: str
    """The account that is paid; it may be the payer's own."""
    reference: str
    """What the hold was placed for."""
    price_units: int
    """Never above the hold."""
    reason: str
    """How the rent came to its end."""


class PayRefund(Struct, frozen=True, kw_only=True):
    """Give somebody back what they paid, once, out of a hold on the account that was paid, with the fee of it."""

    hold: str
    owner: str
    """Whose money is held: who was paid."""
    payer: str
    """Who gets it back; never the owner."""
    reference: str
    """What the hold was placed for."""
    amount_units: int
    """Out of the hold; the rest of it returns to the owner."""
    fee_units: int
    """Out of the platform's fees, beside it."""
    reason: str
    receipt: str | None = None
    """The receipt whose price goes back; none where what was paid has none."""
    rest: PlaceHold | None = None
    """What of the rest is held anew in the same transaction, so that its owner cannot spend it between; none where all
    of it returns."""


class Refunded(Struct, frozen=True, kw_only=True):
    """What a refund did."""

    transaction: str
    amount_units: int
    """All that the payer got back."""


class Hold(Struct, frozen=True, kw_only=True):
    """Money set aside, as the ledger has it."""

    id: str
    payer: str
    amount_units: int
    state: str
    """`open`, `settled`, `voided` or `expired`."""
    reference: str
    placed_at: datetime
    expires_at: datetime


class Balance(Struct, frozen=True, kw_only=True):
    """What an account owns: `available + held`."""

    account: str
    available_units: int
    held_units: int


class FeeQuote(Struct, frozen=True, kw_only=True):
    """The platform's share of a price, at the rate in force."""

    basis_points: int
    fee_units: int


class Settlement(Struct, frozen=True, kw_only=True):
    """What a settlement did."""

    receipt: str
    transaction: str
    price_units: int
    fee_units: int
    earned_units: int
    returned_units: int


class Rent(Struct, frozen=True, kw_only=True):
    """What the payment of a rent did."""

    transaction: str
    price_units: int
    fee_units: int
    earned_units: int
    returned_units: int


class Earnings(Struct, frozen=True, kw_only=True):
    """What a miner was paid, from its receipts."""

    miner: str
    jobs: int
    earned_units: int


class DeviceEarnings(Struct, frozen=True, kw_only=True):
    """What a miner was paid for work on the same GPUs, from its receipts."""

    devices: tuple[tuple[str, int], ...]
    """Of each GPU the digest of its uuid, and how many MiB of it the work had; empty where none was reserved."""
    is_own_work: bool
    """Whether the miner's own account paid."""
    jobs: int
    earned_units: int


class KindPaid(Struct, frozen=True, kw_only=True):
    """What miners were paid for one kind of work."""

    kind: str
    receipts: int
    earned_units: int


class SealedReceipt(Struct, frozen=True, kw_only=True):
    """A paid job, or what went back to its payer later, by its place in the chain."""

    sequence: int
    """The number of the receipt, or of the transaction that refunds it, among all records of the chain."""
    job: str
    payer: str
    miner: str
    miner_account: str
    kind: str
    unit: str
    units: int
    price_units: int
    fee_units: int
    earned_units: int
    issued_at: datetime
    """When it was paid, or went back."""
    key: str | None = None
    """The API key that asked for the job; none where the ledger does not know."""
    is_refund: bool = False
    """Whether these units went back: the price to the payer, out of the fee and of what was earned."""


class ReceiptParties(Struct, frozen=True, kw_only=True):
    """Who paid whom by a receipt."""

    receipt: str
    payer: str
    miner: str
    miner_account: str
    price_units: int
    fee_units: int
    earned_units: int
    issued_at: datetime
    is_corrected: bool
    """Whether the operator gave all of it back."""


class TransferMoney(Struct, frozen=True, kw_only=True):
    """Move money between two accounts of the ledger, once: stake, deposits of proposals, the treasury."""

    transfer: str
    """The id of the transaction (`txn_…`), made by the caller, so that asking twice is harmless."""
    source: str
    """`owner/purpose`, as records name accounts: `acct_…/main`, `acct_…/stake`, `acct_…/deposit`, `system/fees`,
    `system/treasury`."""
    target: str
    """The same, of another account."""
    amount_units: int
    """Minor units, above 0."""
    reference: str
    """What it is for: a proposal's or a stake's id."""
    reason: str | None = None


class LedgerAccount(Struct, frozen=True, kw_only=True):
    """An account of the ledger, by its name in records."""

    name: str
    balance_units: int
    earned_units: int
    """All that it was ever paid by settlements and rents, corrections taken off."""


class WorkPaid(Struct, frozen=True, kw_only=True):
    """A receipt with the hold that it was paid from, for whoever computes what other rules would have paid."""

    sequence: int
    """The number of the receipt among all records of the chain."""
    kind: str
    units: int
    price_units: int
    fee_units: int
    fee_basis_points: int
    """The rate that the hold was placed at."""
    held_units: int
    """The most that the payer would have paid."""
    payer: str
    miner_account: str
    at_offer: bool
    """Whether the miner's own ask was paid, and not the platform's price of the kind."""
    issued_at: datetime


class TransferNotAllowed(Conflict):
    """Money does not move between accounts of these purposes."""

    code = "transfer_not_allowed"


class TransferDiffers(Conflict):
    """A transaction with this id exists with other contents."""

    code = "transfer_differs"


class InsufficientFunds(PaymentRequired):
    """The account's available balance does not cover this amount."""

    code = "insufficient_funds"


class BudgetExceeded(InsufficientFunds):
    """A budget does not cover this amount; the message says what remains of it, and when it is renewed."""

    code = "budget_exceeded"


class HoldNotOpen(Conflict):
    """This hold was already settled, voided or has expired."""

    code = "hold_not_open"


class HoldDiffers(Conflict):
    """A hold with this id exists with other contents."""

    code = "hold_differs"


class HoldNotFound(NotFound):
    """There is no such hold."""

    code = "hold_not_found"


class PriceAboveHold(Conflict):
    """A settlement cannot take more than was held."""

    code = "price_above_hold"


class HolderNotFound(NotFound):
    """There is no such account in the ledger."""

    code = "ledger_account_not_found"


class TradingApi(Protocol):
    """What trading does for other modules."""

    async def hold(self, command: PlaceHold) -> Hold:
        """Set money aside. Repeating it is harmless. Raises `InsufficientFunds`, `BudgetExceeded`, `HoldDiffers`."""
        ...

    async def raise_hold(self, command: RaiseHold) -> Hold:
        """Set more money aside in an open hold. Repeating it is harmless.

        Raises `HoldNotOpen`, `HoldNotFound`, `InsufficientFunds`, `BudgetExceeded`, and `HoldDiffers` for another
        payer's.
        """
        ...

    async def settle(self, command: SettleHold) -> Settlement:
        """Pay out of an open hold and issue the receipt. Repeating it returns the same.

        Raises `HoldNotOpen`, `HoldNotFound`, `PriceAboveHold`, and `HoldDiffers` when hold, job and payer do not belong
        together.
        """
        ...

    async def pay_rent(self, command: PayRent) -> Rent:
        """Pay a rent out of an open hold. Repeating it returns the same.

        Raises `HoldNotOpen`, `HoldNotFound`, `PriceAboveHold`, and `HoldDiffers` when hold, payer and reference do not
        belong together.
        """
        ...

    async def refund(self, command: PayRefund) -> Refunded:
        """Give a payment back out of an open hold. Repeating it returns the same.

        Raises `HoldNotOpen`, `HoldNotFound`, `PriceAboveHold`, and `HoldDiffers` when hold, owner and reference do not
        belong together.
        """
        ...

    async def void(self, hold: str, reason: str) -> Hold:
        """Return all of an open hold. Repeating it is harmless. Raises `HoldNotOpen` once settled, `HoldNotFound`."""
        ...

    async def open_holds(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None = None
    ) -> Sequence[Hold]:
        """Open holds placed before a time, oldest first: for modules that look for holds they forgot.

        `after` is a keyset cursor: when the last one seen was placed, and its id.
        """
        ...

    async def still_held(self, holds: Sequence[str]) -> Sequence[Hold]:
        """Those of these holds that are open; in any order."""
        ...

    async def prolong(self, holds: Sequence[str], until: datetime) -> Sequence[str]:
        """Hold this money at least until then; returns those of the holds that are open, in any order.

        The money of those stays held until then, unless they are settled or voided before. Repeating it is harmless,
        and no deadline comes nearer.
        """
        ...

    async def receipted(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that were settled with a receipt; in any order."""
        ...

    async def parties(self, receipts: Sequence[str]) -> Sequence[ReceiptParties]:
        """Who paid whom by those of these receipts that exist; in any order."""
        ...

    async def balance(self, account: str) -> Balance:
        """What an account owns now; zero for one that the ledger has not met."""
        ...

    async def sealed_receipts(self, after: int, limit: int) -> Sequence[SealedReceipt]:
        """Receipts and their refunds that are in a block, by their number in the chain from the one behind `after` on.

        Numbers are given in the order in which they are shown: none appears later behind one that was shown.
        """
        ...

    async def quote_fee(self, price_units: int) -> FeeQuote:
        """The fee that a settlement at this price would take now."""
        ...

    async def transfer(self, command: TransferMoney) -> None:
        """Move money between two accounts. Repeating it is harmless.

        Raises `InsufficientFunds`, `TransferNotAllowed`, `TransferDiffers`.
        """
        ...

    async def ledger_account(self, name: str) -> LedgerAccount:
        """An account by its name in records, `system/treasury` for instance; zeros for one that is not there."""
        ...

    async def work_paid(self, since: datetime, after: int, limit: int) -> Sequence[WorkPaid]:
        """Sealed receipts issued from a time on, by their number in the chain from the one behind `after` on."""
        ...

    async def earnings(self, miners: Sequence[str], since: datetime | None) -> Sequence[Earnings]:
        """What each of these miners was paid, over all its receipts or those since a time."""
        ...

    async def earned_by_devices(
        self, miner: str, since: datetime | None, until: datetime | None
    ) -> Sequence[DeviceEarnings]:
        """What a miner was paid by its receipts of a time, by the GPUs that were reserved for the work."""
        ...

    async def paid_by_kind(self, since: datetime, without: Sequence[str]) -> Sequence[KindPaid]:
        """What was paid since a time for work of each kind, but for own work and that of these payers."""
        ...
