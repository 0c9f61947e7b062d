"""A ledger in memory that keeps trading's promises: for the tests of the modules above it."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import UnsetType
from msgspec.structs import replace

from aitbc.kernel.crypto.copies import copy_number
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.trading.api import (
    Balance,
    DeviceEarnings,
    Earnings,
    FeeQuote,
    Hold,
    HoldDiffers,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    KindPaid,
    LedgerAccount,
    PayRefund,
    PayRent,
    PlaceHold,
    PriceAboveHold,
    RaiseHold,
    ReceiptParties,
    Refunded,
    Rent,
    SealedReceipt,
    SettleHold,
    Settlement,
    TransferMoney,
    WorkPaid,
)

BASIS_POINTS = 250


class FakeTrading:
    """Balances, holds and settlements; `closed` makes it unreachable, and while it does not settle only settlements fail."""

    def __init__(self) -> None:
        self.available: dict[str, int] = {}
        self.holds: dict[str, Hold] = {}
        self.settlements: dict[str, Settlement] = {}
        self.paid: dict[str, SettleHold] = {}
        self.paid_at: dict[str, datetime] = {}
        self.rents: dict[str, tuple[PayRent, Rent]] = {}
        self.refunds: dict[str, Refunded] = {}
        self.purses: dict[str, int] = {}
        self.transfers: set[str] = set()
        self.closed = False
        self.settles = True
        self.prolonged = 0

    def fund(self, account: str, units: int) -> None:
        """Give an account money."""
        self.available[account] = self.available.get(account, 0) + units

    @property
    def total(self) -> int:
        """All the money there is: it never changes but by `fund`."""
        return sum(self.available.values()) + sum(hold.amount_units for hold in self._open())

    def _open(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.state == "open"]

    def _require_open_doors(self) -> None:
        if self.closed:
            raise Unavailable("trading cannot be reached")

    async def hold(self, command: PlaceHold) -> Hold:
        self._require_open_doors()
        placed = self.holds.get(command.hold)
        if placed is not None:
            same = (placed.payer, placed.amount_units, placed.reference)
            if same != (command.payer, command.amount_units, command.reference):
                raise HoldDiffers
            return placed
        if command.amount_units <= 0:
            raise money.InvalidAmount("A hold needs an amount greater than zero.")
        available = self.available.get(command.payer, 0)
        if available < command.amount_units:
            raise InsufficientFunds(available=money.render(available), needed=money.render(command.amount_units))
        self.available[command.payer] -= command.amount_units
        hold = Hold(
            id=command.hold,
            payer=command.payer,
            amount_units=command.amount_units,
            state="open",
            reference=command.reference,
            placed_at=now(),
            expires_at=command.expires_at,
        )
        self.holds[hold.id] = hold
        return hold

    async def settle(self, command: SettleHold) -> Settlement:
        self._require_open_doors()
        if not self.settles:
            raise Unavailable("no settlements now")
        hold = self._find(command.hold)
        if (hold.payer, hold.reference) != (command.payer, command.job):
            raise HoldDiffers
        assert copy_number(command.job, hold.id) is not None
        if hold.state == "settled":
            return self._settled_before(command)
        if hold.state != "open":
            raise HoldNotOpen
        if not 0 <= command.price_units <= hold.amount_units:
            raise PriceAboveHold
        fee = 0 if command.payer == command.miner_account else money.share(command.price_units, BASIS_POINTS)
        done = Settlement(
            receipt="rcpt_" + hold.id.removeprefix("hold_"),
            transaction="txn_" + hold.id.removeprefix("hold_"),
            price_units=command.price_units,
            fee_units=fee,
            earned_units=command.price_units - fee,
            returned_units=hold.amount_units - command.price_units,
        )
        self.holds[hold.id] = replace(hold, state="settled")
        self.fund(hold.payer, done.returned_units)
        self.fund(command.miner_account, done.earned_units)
        self.fund("fees", fee)
        self.settlements[hold.id] = done
        name = _paid_name(command)
        self.paid[name] = command
        self.paid_at[name] = now()
        return done

    def _settled_before(self, command: SettleHold) -> Settlement:
        paid = self.paid.get(_paid_name(command))
        if paid is None:  # it paid a rent
            raise HoldNotOpen
        same = (paid.attempt, paid.token, paid.output_digest, paid.price_units)
        if same != (command.attempt, command.token, command.output_digest, command.price_units):
            raise HoldNotOpen
        return self.settlements[command.hold]

    async def pay_rent(self, command: PayRent) -> Rent:
        self._require_open_doors()
        hold = self._find(command.hold)
        if (hold.payer, hold.reference) != (command.payer, command.reference):
            raise HoldDiffers
        if hold.id in self.rents:
            paid, rent = self.rents[hold.id]
            if (paid.owner, paid.price_units) != (command.owner, command.price_units):
                raise HoldNotOpen
            return rent
        if hold.state != "open":
            raise HoldNotOpen
        if not 0 <= command.price_units <= hold.amount_units:
            raise PriceAboveHold
        fee = money.share(command.price_units, BASIS_POINTS)
        done = Rent(
            transaction="txn_" + hold.id.removeprefix("hold_"),
            price_units=command.price_units,
            fee_units=fee,
            earned_units=command.price_units - fee,
            returned_units=hold.amount_units - command.price_units,
        )
        self.holds[hold.id] = replace(hold, state="settled")
        self.fund(hold.payer, done.returned_units)
        self.fund(command.owner, done.earned_units)
        self.fund("fees", fee)
        self.rents[hold.id] = (command, done)
        return done

    async def refund(self, command: PayRefund) -> Refunded:
        self._require_open_doors()
        hold = self._find(command.hold)
        if (hold.payer, hold.reference) != (command.owner, command.reference) or command.payer == command.owner:
            raise HoldDiffers
        if hold.id in self.refunds:
            return self.refunds[hold.id]
        if hold.state != "open":
            raise HoldNotOpen
        if not 0 < command.amount_units <= hold.amount_units or command.fee_units < 0:
            raise PriceAboveHold
        self.holds[hold.id] = replace(hold, state="settled")
        self.fund(command.owner, hold.amount_units - command.amount_units)
        self.fund("fees", -command.fee_units)
        amount = command.amount_units + command.fee_units
        self.fund(command.payer, amount)
        done = Refunded(transaction="txn_" + hold.id.removeprefix("hold_"), amount_units=amount)
        self.refunds[hold.id] = done
        return done

    async def void(self, hold: str, reason: str) -> Hold:
        self._require_open_doors()
        found = self._find(hold)
        if found.state == "settled":
            raise HoldNotOpen
        if found.state == "open":
            self.holds[hold] = found = replace(found, state="voided")
            self.fund(found.payer, found.amount_units)
        return found

    async def open_holds(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None = None
    ) -> Sequence[Hold]:
        found = sorted((hold.placed_at, hold.id) for hold in self._open() if hold.placed_at < before)
        return [self.holds[id_] for placed_at, id_ in found if after is None or (placed_at, id_) > after][:limit]

    async def still_held(self, holds: Sequence[str]) -> Sequence[Hold]:
        return [hold for hold in self._open() if hold.id in holds]

    async def raise_hold(self, command: RaiseHold) -> Hold:
        self._require_open_doors()
        found = self.holds.get(command.hold)
        if found is None:
            raise HoldNotFound
        if found.payer != command.payer:
            raise HoldDiffers
        if found.state != "open":
            raise HoldNotOpen
        more = command.amount_units - found.amount_units
        if more > 0:
            if self.available.get(found.payer, 0) < more:
                raise InsufficientFunds
            self.fund(found.payer, -more)
            self.holds[command.hold] = found = replace(found, amount_units=command.amount_units)
        return found

    async def prolong(self, holds: Sequence[str], until: datetime) -> Sequence[str]:
        self._require_open_doors()
        self.prolonged += len(holds)
        held = [hold for hold in self._open() if hold.id in holds]
        for hold in held:
            self.holds[hold.id] = replace(hold, expires_at=max(hold.expires_at, until))
        return [hold.id for hold in held]

    def expire_holds(self) -> None:
        """Return the holds whose deadline has passed, as the periodic task does."""
        for hold in self._open():
            if hold.expires_at <= now():
                self.holds[hold.id] = replace(hold, state="expired")
                self.fund(hold.payer, hold.amount_units)

    async def receipted(self, jobs: Sequence[str]) -> Sequence[str]:
        self._require_open_doors()
        return [job for job in jobs if job in self.paid]

    async def parties(self, receipts: Sequence[str]) -> Sequence[ReceiptParties]:
        self._require_open_doors()
        found = {paid.hold.replace("hold_", "rcpt_"): paid for paid in self.paid.values()}
        return [
            ReceiptParties(
                receipt=one,
                payer=paid.payer,
                miner=paid.miner,
                miner_account=paid.miner_account,
                price_units=paid.price_units,
                fee_units=self.settlements[paid.hold].fee_units,
                earned_units=self.settlements[paid.hold].earned_units,
                issued_at=self.paid_at[paid.job],
                is_corrected=False,
            )
            for one, paid in found.items()
            if one in receipts
        ]

    async def balance(self, account: str) -> Balance:
        held = sum(hold.amount_units for hold in self._open() if hold.payer == account)
        return Balance(account=account, available_units=self.available.get(account, 0), held_units=held)

    async def quote_fee(self, price_units: int) -> FeeQuote:
        return FeeQuote(basis_points=BASIS_POINTS, fee_units=money.share(price_units, BASIS_POINTS))

    async def earnings(self, miners: Sequence[str], since: datetime | None) -> Sequence[Earnings]:
        counted = [paid for paid in self.paid.values() if since is None or self.paid_at[_paid_name(paid)] >= since]
        return [
            Earnings(
                miner=miner,
                jobs=len(paid := [one for one in counted if one.miner == miner]),
                earned_units=sum(self.settlements[one.hold].earned_units for one in paid),
            )
            for miner in miners
        ]

    async def earned_by_devices(
        self, miner: str, since: datetime | None, until: datetime | None
    ) -> Sequence[DeviceEarnings]:
        return [
            DeviceEarnings(
                devices=()
                if isinstance(paid.devices, UnsetType)
                else tuple((one["uuid_digest"], one["memory_mib"]) for one in paid.devices),
                is_own_work=paid.payer == paid.miner_account,
                jobs=1,
                earned_units=self.settlements[paid.hold].earned_units,
            )
            for name, paid in self.paid.items()
            if paid.miner == miner
            and (since is None or self.paid_at[name] >= since)
            and (until is None or self.paid_at[name] < until)
        ]

    async def paid_by_kind(self, since: datetime, without: Sequence[str]) -> Sequence[KindPaid]:
        return [
            KindPaid(kind=paid.kind, receipts=1, earned_units=self.settlements[paid.hold].earned_units)
            for name, paid in self.paid.items()
            if self.paid_at[name] >= since and paid.payer not in (paid.miner_account, *without)
        ]

    async def transfer(self, command: TransferMoney) -> None:
        self._require_open_doors()
        if command.transfer in self.transfers:
            return
        if (await self.ledger_account(command.source)).balance_units < command.amount_units:
            raise InsufficientFunds
        for name, amount in ((command.source, -command.amount_units), (command.target, command.amount_units)):
            account, _, purpose = name.partition("/")
            if purpose == "main":
                self.fund(account, amount)
            else:
                self.purses[name] = self.purses.get(name, 0) + amount
        self.transfers.add(command.transfer)

    async def ledger_account(self, name: str) -> LedgerAccount:
        account, _, purpose = name.partition("/")
        balance = self.available.get(account, 0) if purpose == "main" else self.purses.get(name, 0)
        return LedgerAccount(name=name, balance_units=balance, earned_units=0)

    async def work_paid(self, since: datetime, after: int, limit: int) -> Sequence[WorkPaid]:
        return ()

    async def sealed_receipts(self, after: int, limit: int) -> Sequence[SealedReceipt]:
        found = []
        for sequence, paid in enumerate(self.paid.values(), 1):
            settled = self.settlements[paid.hold]
            found.append(
                SealedReceipt(
                    sequence=sequence,
                    job=paid.job,
                    payer=paid.payer,
                    miner=paid.miner,
                    miner_account=paid.miner_account,
                    kind=paid.kind,
                    unit=paid.unit,
                    units=paid.units,
                    price_units=settled.price_units,
                    fee_units=settled.fee_units,
                    earned_units=settled.earned_units,
                    issued_at=self.paid_at[_paid_name(paid)],
                )
            )
        return [one for one in found if one.sequence > after][:limit]

    def _find(self, hold: str) -> Hold:
        if hold not in self.holds:
            raise HoldNotFound
        return self.holds[hold]


def _paid_name(command: SettleHold) -> str:
    """The job, of further answers to it their hold."""
    return command.job if copy_number(command.job, command.hold) == 0 else command.hold
