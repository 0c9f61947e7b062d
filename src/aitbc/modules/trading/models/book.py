"""The rules of the ledger, over rows that a transaction has locked: pure, whoever loads and saves them.

A method either does all of its work on the book or raises an `AppError` and leaves the book as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from aitbc.kernel.crypto.copies import copy_number
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import ASSET, LARGEST, InvalidAmount, render, share
from aitbc.modules.trading.api import (
    Hold,
    HoldDiffers,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRefund,
    PayRent,
    PlaceHold,
    PriceAboveHold,
    RaiseHold,
    Refunded,
    Rent,
    SettleHold,
    Settlement,
    TransferMoney,
)
from aitbc.modules.trading.models.budgets import Budgets
from aitbc.modules.trading.models.records import (
    EntryRecord,
    ReceiptClaims,
    TransactionRecord,
    devices_of,
    digest,
    encode_transaction,
    sign_receipt,
    stamp,
    verification_of,
)
from aitbc.modules.trading.models.rows import (
    ESCROW,
    FEES,
    SYSTEM,
    Account,
    Entry,
    HeldMoney,
    Issued,
    Posting,
    Settled,
    account_id,
)

RAISED = "raised"
"""Why a hold is voided that is placed anew in the same commit, with more money."""


@dataclass(slots=True)
class Book:
    """The locked part of the ledger at one moment."""

    at: datetime
    key: Key | None = None
    """Signs receipts: for a book that settles."""
    fee_basis_points: int = 0
    """The rate of the holds that are placed here."""
    stamp: str = ""
    """The moment as records write it."""
    accounts: dict[UUID, Account] = field(default_factory=dict)
    holds: dict[str, HeldMoney] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    settled: dict[str, Settled] = field(default_factory=dict)
    """By hold: the settlements that were there, and those made here."""
    placed: list[HeldMoney] = field(default_factory=list)
    raised: list[HeldMoney] = field(default_factory=list)
    """Of the holds that were there before."""
    ended: list[HeldMoney] = field(default_factory=list)
    changed: set[UUID] = field(default_factory=set)
    postings: list[Posting] = field(default_factory=list)
    issued: list[Issued] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stamp = stamp(self.at)

    def place(self, command: PlaceHold) -> Hold:
        """Move money from a payer into escrow; a repetition returns the hold as it is now."""
        known = self.holds.get(command.hold)
        if known is not None:
            same = (known.payer, known.amount_units, known.reference)
            if same != (command.payer, command.amount_units, command.reference):
                raise HoldDiffers
            return known.view()
        amount = command.amount_units
        if type(amount) is not int or not 0 < amount <= LARGEST:
            raise InvalidAmount("A hold needs an amount greater than zero.")
        payer = self.accounts.get(ids.decode("acct", command.payer))
        if payer is None or payer.balance_units < amount:
            available = 0 if payer is None else payer.balance_units
            raise InsufficientFunds(available=render(available), needed=render(amount))
        legs = ((payer, -amount), (self.accounts[ESCROW], amount))
        _require_room(legs)
        asked = (command.payer, command.key, command.model, amount, self.at)
        counted = self.budgets.reserve(*asked) if command.is_spent else None
        posting = self.post("hold", legs, hold=command.hold, reference=command.reference)
        payer.held_units += amount
        hold = HeldMoney(
            id=command.hold,
            payer=command.payer,
            amount_units=amount,
            fee_basis_points=_rate(command, self.fee_basis_points),
            state="open",
            reference=command.reference,
            placed_at=self.at,
            expires_at=command.expires_at,
            placed_by=posting.id,
            budgets=counted,
            key=command.key,
        )
        self.holds[hold.id] = hold
        self.placed.append(hold)
        return hold.view()

    def raise_hold(self, command: RaiseHold) -> Hold:
        """Hold more for what a hold was placed for: it goes back whole, and is placed anew under its own id.

        So the records of the chain read as ever, and the two transactions stand side by side in one commit.
        """
        hold, amount = self.holds.get(command.hold), command.amount_units
        if hold is None:
            raise HoldNotFound
        if hold.payer != command.payer:
            raise HoldDiffers
        if hold.state != "open":
            raise HoldNotOpen
        if amount <= hold.amount_units:
            return hold.view()
        payer, escrow, before = self.accounts[ids.decode("acct", hold.payer)], self.accounts[ESCROW], hold.amount_units
        if payer.balance_units + before < amount:
            raise InsufficientFunds(available=render(payer.balance_units), needed=render(amount - before))
        if amount > LARGEST or max(abs(payer.balance_units), abs(escrow.balance_units)) > LARGEST - 2 * (
            before + amount
        ):
            raise AmountOverflow
        hold.budgets = self.budgets.reserve_more(hold.payer, hold.budgets, before, amount, self.at)
        back = ((escrow, -before), (payer, before))
        self.post("void", back, hold=hold.id, reference=hold.reference, reason=RAISED)
        anew = ((payer, -amount), (escrow, amount))
        posting = self.post("hold", anew, hold=hold.id, reference=hold.reference)
        payer.held_units += amount - before
        if not hold.placed_by:
            self.raised.append(hold)
        hold.amount_units, hold.placed_at, hold.placed_by = amount, self.at, posting.id
        return hold.view()

    def settle(self, command: SettleHold) -> Settlement:
        """Pay a miner and the fee out of a hold, return the rest, and issue the receipt.

        A hold past its deadline that has not been expired yet still settles: accepted work is paid.
        """
        hold = self.holds.get(command.hold)
        if hold is None:
            raise HoldNotFound
        is_of_job = ids.is_id("job", command.job) and copy_number(command.job, hold.id) is not None
        if (hold.payer, hold.reference) != (command.payer, command.job) or not is_of_job:
            raise HoldDiffers
        if hold.state == "settled":
            return self._settled_before(command)
        if hold.state != "open":
            raise HoldNotOpen
        price = command.price_units
        rate = work_rate(hold.payer, command.miner_account, hold.fee_basis_points)
        posting, fee = self._pay_out(hold, "settle", command.miner_account, price, rate=rate)
        settlement = Settlement(
            receipt=f"rcpt_{hold.id.removeprefix('hold_')}",
            transaction=posting.id,
            price_units=price,
            fee_units=fee,
            earned_units=price - fee,
            returned_units=hold.amount_units - price,
        )
        self._issue(command, hold, settlement, rate)
        return settlement

    def _settled_before(self, command: SettleHold) -> Settlement:
        known = self.settled.get(command.hold)
        if known is None:  # it paid a rent
            raise HoldNotOpen
        claims, price = known.claims, known.settlement.price_units
        same = (claims.attempt, claims.token, claims.output_digest, price)
        if same != (command.attempt, command.token, command.output_digest, command.price_units):
            raise HoldNotOpen
        return known.settlement

    def pay_rent(self, command: PayRent) -> Rent:
        """Pay an owner and the fee out of a hold, and return the rest.

        A hold past its deadline that has not been expired yet still pays: what was used is paid for.
        """
        hold = self.holds.get(command.hold)
        if hold is None:
            raise HoldNotFound
        if (hold.payer, hold.reference) != (command.payer, command.reference):
            raise HoldDiffers
        if hold.state != "open":
            raise HoldNotOpen
        posting, _ = self._pay_out(hold, "rent", command.owner, command.price_units, reason=command.reason)
        return rent_of(hold, posting.id)

    def refund(self, command: PayRefund) -> Refunded:
        """Give a payer back what an owner was paid, out of a hold on the owner, and the fee of it out of the fees.

        What both had counted as earned and spent is counted off again.
        """
        hold, amount, fee = self.holds.get(command.hold), command.amount_units, command.fee_units
        if hold is None:
            raise HoldNotFound
        if (hold.payer, hold.reference) != (command.owner, command.reference) or command.payer == command.owner:
            raise HoldDiffers
        if hold.state != "open":
            raise HoldNotOpen
        if type(amount) is not int or type(fee) is not int or not 0 < amount <= hold.amount_units or fee < 0:
            raise PriceAboveHold
        owner, payer = self.accounts[ids.decode("acct", hold.payer)], self.accounts[ids.decode("acct", command.payer)]
        fees = self.accounts[FEES]
        legs = (
            (self.accounts[ESCROW], -hold.amount_units),
            (payer, amount + fee),
            (fees, -fee),
            (owner, hold.amount_units - amount),
        )
        posting = self.post("refund", legs, hold=hold.id, reference=hold.reference, reason=command.reason)
        payer.spent_units -= amount + fee
        owner.earned_units -= amount
        fees.earned_units -= fee
        hold.price_units = amount
        self._end(hold, owner, "settled", posting, command.reason)
        return Refunded(transaction=posting.id, amount_units=amount + fee)

    def give_back(self, hold_id: str, state: str, reason: str | None) -> Hold:
        """Return all of an open hold to its payer, as `voided` or `expired`; one returned before stays as it is."""
        hold = self.holds.get(hold_id)
        if hold is None:
            raise HoldNotFound
        if hold.state == "settled":
            raise HoldNotOpen
        if hold.state == "open":
            payer = self.accounts.get(ids.decode("acct", hold.payer))
            if payer is None:  # it appeared after the accounts were locked
                raise HoldNotFound
            legs = ((self.accounts[ESCROW], -hold.amount_units), (payer, hold.amount_units))
            kind = "void" if state == "voided" else "expire"
            posting = self.post(kind, legs, hold=hold.id, reference=hold.reference, reason=reason)
            self._end(hold, payer, state, posting, reason)
        return hold.view()

    def grant(self, kind: str, account: Account, amount: int, reason: str | None) -> Posting:
        """Play money out of the issuance of its asset: a `deposit` or a `faucet` grant."""
        return self.post(kind, ((self.system("issuance", account.asset), -amount), (account, amount)), reason=reason)

    def correct_grant(self, account: Account, amount: int, original: str, reason: str) -> Posting:
        """Take granted money back. Raises `InsufficientFunds` when it is no longer there."""
        _require_balance(account, amount)
        legs = ((self.system("issuance", account.asset), amount), (account, -amount))
        return self.post("correction", legs, reference=original, reason=reason)

    def correct_settlement(
        self, payer: Account, miner: Account, *, earned: int, fee: int, original: str, reason: str
    ) -> Posting:
        """Give the price of a settlement back to the payer. Raises `InsufficientFunds` when the miner has spent it."""
        if payer is not miner:
            _require_balance(miner, earned)
        fees = self.accounts[FEES]
        legs = ((payer, earned + fee), (miner, -earned), (fees, -fee))
        posting = self.post("correction", legs, reference=original, reason=reason)
        payer.spent_units -= earned + fee
        miner.earned_units -= earned
        fees.earned_units -= fee
        return posting

    def transfer(self, source: Account, target: Account, amount: int, command: TransferMoney) -> Posting:
        """Move money between two accounts, neither of which is overdrawn. Raises `InsufficientFunds`."""
        if source.balance_units < amount:
            raise InsufficientFunds(available=render(source.balance_units), needed=render(amount))
        named = {"reference": command.reference, "reason": command.reason, "id_": command.transfer}
        return self.post("transfer", ((source, -amount), (target, amount)), **named)

    def records(self) -> list[tuple[str, UUID, bytes]]:
        """Kind, id and digest of what was written, in the order of the chain: a receipt follows its settlement."""
        receipts = {issued.transaction_id: issued for issued in self.issued}
        found: list[tuple[str, UUID, bytes]] = []
        for posting in self.postings:
            found.append(("transaction", ids.decode("txn", posting.id), posting.digest))
            issued = receipts.get(posting.id)
            if issued is not None:
                found.append(("receipt", ids.decode("rcpt", issued.id), issued.digest))
        return found

    def system(self, purpose: str, asset: str = ASSET) -> Account:
        """An account of the system's."""
        return self.accounts[account_id(SYSTEM, purpose, asset)]

    def _end(self, hold: HeldMoney, payer: Account, state: str, posting: Posting, reason: str | None) -> None:
        hold.state, hold.ended_at, hold.ended_by, hold.reason = state, self.at, posting.id, reason
        payer.held_units -= hold.amount_units
        self.budgets.release(hold.budgets, hold.amount_units, hold.price_units or 0)
        self.ended.append(hold)

    def _pay_out(
        self,
        hold: HeldMoney,
        kind: str,
        to: str,
        price: int,
        *,
        rate: int | None = None,
        reason: str | None = None,
    ) -> tuple[Posting, int]:
        """Pay the price out of an open hold, less the fee, and return the rest; returns the posting and the fee.

        `rate` is the platform's share in 1/10 000; none for that of the hold.
        """
        if type(price) is not int or not 0 <= price <= hold.amount_units:
            raise PriceAboveHold
        fee = share(price, hold.fee_basis_points if rate is None else rate)
        payer, fees = self.accounts[ids.decode("acct", hold.payer)], self.accounts[FEES]
        payee = self.accounts[ids.decode("acct", to)]
        legs = (
            (self.accounts[ESCROW], -hold.amount_units),
            (payee, price - fee),
            (fees, fee),
            (payer, hold.amount_units - price),
        )
        posting = self.post(kind, legs, hold=hold.id, reference=hold.reference, reason=reason)
        payer.spent_units += price
        payee.earned_units += price - fee
        fees.earned_units += fee
        hold.price_units = price
        self._end(hold, payer, "settled", posting, reason)
        return posting, fee

    def post(
        self,
        kind: str,
        legs: Sequence[tuple[Account, int]],
        *,
        hold: str | None = None,
        reference: str | None = None,
        reason: str | None = None,
        id_: str | None = None,
    ) -> Posting:
        """Write a transaction; a leg of zero moves nothing and gets no entry."""
        assert_balanced(legs)
        _require_room(legs)
        id_ = id_ or ids.new_id("txn")
        entries: list[Entry] = []
        records = []
        for account, amount in legs:
            self.changed.add(account.id)
            if amount == 0:
                continue
            account.balance_units += amount
            account.version += 1
            assert account.balance_units >= 0 or account.owner == SYSTEM, f"{account.name} would be overdrawn"
            asset = None if account.asset == ASSET else account.asset
            entries.append(Entry(id_, len(entries), account.id, amount, account.balance_units, account.version, asset))
            balance = render(account.balance_units)
            records.append(
                EntryRecord(
                    account=account.name,
                    amount=render(amount),
                    asset=asset or UNSET,
                    balance=balance,
                    version=account.version,
                )
            )
        record = TransactionRecord(
            at=self.stamp, entries=records, hold=hold, id=id_, kind=kind, reason=reason, reference=reference
        )
        body = encode_transaction(record)
        posting = Posting(id_, kind, hold, reference, reason, body.decode(), digest(body), entries)
        self.postings.append(posting)
        return posting

    def _issue(self, command: SettleHold, hold: HeldMoney, settlement: Settlement, rate: int) -> None:
        assert self.key is not None, "a book that settles has the key of the node"
        claims = ReceiptClaims(
            attempt=command.attempt,
            devices=devices_of(command),
            earned=render(settlement.earned_units),
            fee=render(settlement.fee_units),
            fee_basis_points=rate,
            finished_at=stamp(command.finished_at),
            id=settlement.receipt,
            input_digest=command.input_digest,
            issued_at=self.stamp,
            job=command.job,
            kind=command.kind,
            miner=command.miner,
            miner_account=command.miner_account,
            miner_key=command.miner_key,
            miner_signature=command.miner_signature,
            offer=command.offer,
            unit_price=UNSET if isinstance(command.ask_units, UnsetType) else render(command.ask_units),
            node_key=self.key.public,
            output_digest=command.output_digest,
            payer=hold.payer,
            price=render(settlement.price_units),
            started_at=stamp(command.started_at),
            token=command.token,
            transaction=settlement.transaction,
            unit=command.unit,
            units=str(command.units),
            verification=verification_of(command),
        )
        body = sign_receipt(claims, self.key)
        issued = Issued(
            id=claims.id,
            transaction_id=claims.transaction,
            payer=claims.payer,
            miner=claims.miner,
            miner_account=claims.miner_account,
            price_units=settlement.price_units,
            fee_units=settlement.fee_units,
            earned_units=settlement.earned_units,
            body=body.decode(),
            digest=digest(body),
        )
        self.settled[hold.id] = Settled(settlement, claims)
        self.issued.append(issued)


def assert_balanced(legs: Sequence[tuple[Account, int]]) -> None:
    """What only a bug could break: every transaction sums to zero in each asset."""
    sums: dict[str, int] = {}
    for account, amount in legs:
        sums[account.asset] = sums.get(account.asset, 0) + amount
    assert not any(sums.values()), "every transaction sums to zero in each asset"


def _require_room(legs: Sequence[tuple[Account, int]]) -> None:
    volume = sum(abs(amount) for _, amount in legs)
    if any(abs(account.balance_units) > LARGEST - volume for account, _ in legs):
        raise AmountOverflow


def _rate(command: PlaceHold, in_force: int) -> int:
    rate = command.fee_basis_points
    return in_force if isinstance(rate, UnsetType) else rate


def work_rate(payer: str, miner_account: str, rate: int) -> int:
    """The platform's share of the price of work, in 1/10 000: nothing of an account's work for its own miner."""
    return 0 if payer == miner_account else rate


def _require_balance(account: Account, amount: int) -> None:
    if account.owner != SYSTEM and account.balance_units < amount:
        raise InsufficientFunds(available=render(account.balance_units), needed=render(amount))


def rent_of(hold: HeldMoney, transaction: str) -> Rent:
    """What the payment of a rent did, from its hold."""
    assert hold.price_units is not None, "a settled hold has a price"
    fee = share(hold.price_units, hold.fee_basis_points)
    return Rent(
        transaction=transaction,
        price_units=hold.price_units,
        fee_units=fee,
        earned_units=hold.price_units - fee,
        returned_units=hold.amount_units - hold.price_units,
    )


def settled_before(body: str, price_units: int, fee_units: int, hold_amount_units: int) -> Settled:
    """A stored settlement, by its receipt, for one that is repeated."""
    claims = msgspec.json.decode(body, type=ReceiptClaims)
    settlement = Settlement(
        receipt=claims.id,
        transaction=claims.transaction,
        price_units=price_units,
        fee_units=fee_units,
        earned_units=price_units - fee_units,
        returned_units=hold_amount_units - price_units,
    )
    return Settled(settlement, claims)
