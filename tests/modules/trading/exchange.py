"""Builders for the tests of the exchange: a pair, people with both assets, orders in whole units."""

from typing import Any

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.trading.models.exchange.views import ExchangeOrder
from aitbc.modules.trading.service import TradingService
from aitbc.modules.trading.service.exchange.orders import PlaceOrder
from aitbc.modules.trading.service.exchange.pairs import MakePair
from tests.modules.trading.make import ADMIN, AITBC, once, person

STEP = 10**4


async def a_pair(trading: TradingService, base: str = "GOLD", quote: str = "AITBC") -> str:
    """A pair of two assets, which are defined where they are not."""
    for code in (base, quote):
        if code != "AITBC":
            await trading.assets.define(ADMIN, code, code.title())
    made = await trading.exchange_pairs.make(
        ADMIN,
        MakePair(
            base=base,
            quote=quote,
            price_step_units=STEP,
            quantity_step_units=STEP,
            min_quantity_units=STEP,
            max_quantity_units=1_000_000 * AITBC,
        ),
    )
    return made.id


async def trader(trading: TradingService, **whole: int) -> Principal:
    """Somebody with so many whole units of each asset."""
    who = person()
    for asset, count in whole.items():
        await trading.deposits.deposit(ADMIN, who.account, count * AITBC, None, once(), asset)
    return who


async def place(
    trading: TradingService, who: Principal, side: str, quantity: float, price: float | None, **how: Any
) -> ExchangeOrder:
    """An order of somebody's, of the pair GOLD-AITBC unless it says another; prices and quantities are whole units."""
    command = PlaceOrder(
        pair=how.pop("pair", "GOLD-AITBC"),
        side=side,
        quantity_units=round(quantity * AITBC),
        price_units=None if price is None else round(price * AITBC),
        lasts=how.pop("lasts", "ioc" if price is None else "gtc"),
        **how,
    )
    return await trading.exchange_orders.place(who, command, once())


async def had(trading: TradingService, who: Principal) -> dict[str, tuple[str, str]]:
    """What somebody has of each asset: available and held."""
    found = await trading.assets.of_account(who, who.account)
    return {one.asset: (one.available, one.held) for one in found}
