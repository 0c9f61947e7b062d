"""What callers send to the exchange."""

from typing import Annotated, Literal

from litestar.params import QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.routes.assets import AssetCode
from aitbc.modules.trading.routes.ledger import Amount
from aitbc.modules.trading.service.exchange.orders import PlaceOrder
from aitbc.modules.trading.service.exchange.pairs import MakePair

PairName = Annotated[
    str,
    Meta(max_length=25, pattern=r"^[A-Z][A-Z0-9]{1,11}-[A-Z][A-Z0-9]{1,11}\Z"),
    Meta(
        description="The pair.",
        extra_json_schema={"pattern": "^[A-Z][A-Z0-9]{1,11}-[A-Z][A-Z0-9]{1,11}$", "examples": ["GOLD-AITBC"]},
    ),
]
OfPair = Annotated[PairName | None, QueryParameter(name="pair")]
OrderStateName = Literal["open", "filled", "canceled"]
InOrderState = Annotated[OrderStateName | None, QueryParameter(name="state")]


class MakeExchangePair(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two assets that are to be exchanged for each other."""

    base: AssetCode
    """What is bought and sold. For example `GOLD`."""
    quote: AssetCode = "AITBC"
    """What it is paid in. For example `AITBC`."""
    price_step: Amount = "0.0001"
    """Prices are multiples of it. For example `0.0001`."""
    quantity_step: Amount = "0.0001"
    """Quantities are multiples of it; both steps multiplied must be whole minor units. For example `0.0001`."""
    min_quantity: Amount = "0.0001"
    """The least that an order may be for. For example `0.01`."""
    max_quantity: Amount = "1000000"
    """The most that an order may be for. For example `1000`."""

    def command(self) -> MakePair:
        """As the service takes it. Raises `InvalidAmount`, `AmountOverflow`."""
        return MakePair(
            base=self.base,
            quote=self.quote,
            price_step_units=parse(self.price_step),
            quantity_step_units=parse(self.quantity_step),
            min_quantity_units=parse(self.min_quantity),
            max_quantity_units=parse(self.max_quantity),
        )


class ChangeExchangePair(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a pair takes new orders."""

    state: Literal["open", "halted"]
    """`halted` takes no new orders. For example `halted`."""


class PlaceExchangeOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you want to buy or to sell."""

    pair: PairName
    """The pair. For example `GOLD-AITBC`."""
    side: Literal["buy", "sell"]
    """Whether you buy or sell its base. For example `buy`."""
    quantity: Amount
    """How much of the base. For example `0.5`."""
    price: Amount | None = None
    """The most you give, or the least you take, for one; left out, any price. For example `0.25`."""
    lasts: Literal["gtc", "ioc", "fok"] | None = None
    """`gtc`: what is left rests; `ioc`: what is left is canceled at once; `fok`: all of it at once, or nothing. Left
    out, `gtc` with a price and `ioc` without."""
    post_only: bool = False
    """End it where it would take something at once."""
    label: Name | None = None
    """What it is for, in your words. For example `savings`."""

    def command(self) -> PlaceOrder:
        """As the service takes it. Raises `InvalidAmount`, `AmountOverflow`."""
        return PlaceOrder(
            pair=self.pair,
            side=self.side,
            quantity_units=parse(self.quantity),
            price_units=None if self.price is None else parse(self.price),
            lasts=self.lasts or ("ioc" if self.price is None else "gtc"),
            post_only=self.post_only,
            label=self.label,
        )
