"""What orders and trades move in the ledger, over accounts that a transaction has locked: pure.

What an order may still cost lies in escrow, no more and no less. A trade takes it from there: the buyer gets the
quantity and the seller the cost, each less its fee.
"""

from uuid import UUID

from msgspec import Struct

from aitbc.kernel.primitives.money import UNIT, checked, render, share
from aitbc.modules.trading.api import InsufficientFunds
from aitbc.modules.trading.models.book import Book
from aitbc.modules.trading.models.exchange.tables import OrderRow, PairRow
from aitbc.modules.trading.models.rows import SYSTEM, Account, Posting, account_id


class Deal(Struct, frozen=True, kw_only=True):
    """What a maker and a taker agreed on."""

    price_units: int
    quantity_units: int
    cost_units: int


class Paid(Struct, frozen=True, kw_only=True):
    """What a trade moved."""

    posting: Posting
    buyer_fee_units: int
    seller_fee_units: int


def cost_of(quantity_units: int, price_units: int) -> int:
    """What a quantity costs at a price, exactly. Raises `AmountOverflow`."""
    cost, rest = divmod(quantity_units * price_units, UNIT)
    assert not rest, "the steps of a pair make every cost whole"
    return checked(cost)


def sold(order: OrderRow, pair: PairRow) -> str:
    """The asset that an order gives."""
    return pair.quote if order.side == "buy" else pair.base


def purses(pair: PairRow, *accounts: str) -> dict[UUID, Account]:
    """All accounts of the ledger that orders of these accounts may move money between, by id."""
    named = [(SYSTEM, purpose) for purpose in ("escrow", "fees")] + [(account, "main") for account in accounts]
    found = [
        Account(account_id(owner, purpose, asset), owner, purpose, asset=asset)
        for owner, purpose in named
        for asset in (pair.base, pair.quote)
    ]
    return {purse.id: purse for purse in found}


def hold(book: Book, order: OrderRow, pair: PairRow, amount_units: int) -> None:
    """Move what an order gives into escrow. Raises `InsufficientFunds`."""
    asset = sold(order, pair)
    payer = _main(book, order.account, asset)
    if payer.balance_units < amount_units:
        raise InsufficientFunds(available=render(payer.balance_units), needed=render(amount_units))
    escrow = book.system("escrow", asset)
    order.placed_by = book.post("order", ((payer, -amount_units), (escrow, amount_units)), reference=order.id).id
    payer.held_units += amount_units
    order.held_units += amount_units


def pay(book: Book, pair: PairRow, maker: OrderRow, taker: OrderRow, deal: Deal) -> Paid:
    """Pay both sides of a trade out of escrow, and count it in both orders."""
    buy, sell = (maker, taker) if maker.side == "buy" else (taker, maker)
    buyer_fee = share(deal.quantity_units, buy.fee_basis_points)
    seller_fee = share(deal.cost_units, sell.fee_basis_points)
    fees = book.system("fees", pair.base), book.system("fees", pair.quote)
    legs = (
        (book.system("escrow", pair.base), -deal.quantity_units),
        (_main(book, buy.account, pair.base), deal.quantity_units - buyer_fee),
        (fees[0], buyer_fee),
        (book.system("escrow", pair.quote), -deal.cost_units),
        (_main(book, sell.account, pair.quote), deal.cost_units - seller_fee),
        (fees[1], seller_fee),
    )
    posting = book.post("trade", legs, reference=f"{maker.id} {taker.id}")
    fees[0].earned_units += buyer_fee
    fees[1].earned_units += seller_fee
    for order, given, fee in ((buy, deal.cost_units, buyer_fee), (sell, deal.quantity_units, seller_fee)):
        giver = _main(book, order.account, sold(order, pair))
        giver.held_units -= given
        book.changed.add(giver.id)
        order.held_units -= given
        order.filled_units += deal.quantity_units
        order.cost_units += deal.cost_units
        order.fee_units += fee
    return Paid(posting=posting, buyer_fee_units=buyer_fee, seller_fee_units=seller_fee)


def give_back(book: Book, order: OrderRow, pair: PairRow) -> None:
    """Return what lies in escrow for an order to its owner."""
    asset, amount = sold(order, pair), order.held_units
    payer = _main(book, order.account, asset)
    legs = ((book.system("escrow", asset), -amount), (payer, amount))
    order.ended_by = book.post("cancel", legs, reference=order.id).id
    payer.held_units -= amount
    order.held_units = 0


def _main(book: Book, account: str, asset: str) -> Account:
    return book.accounts[account_id(account, asset=asset)]
