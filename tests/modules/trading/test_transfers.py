"""Transfers: money that moves between purposes, once, within what is there, and in the chain like everything else."""

import asyncio

import pytest
from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import InsufficientFunds, TransferDiffers, TransferMoney, TransferNotAllowed
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import AITBC, funded, require_sound, trading_on


def a_transfer(source: str, target: str, amount: int = AITBC) -> TransferMoney:
    """A transfer nobody made yet."""
    return TransferMoney(transfer=ids.new_id("txn"), source=source, target=target, amount_units=amount, reference="r")


async def balances(trading: TradingService, *names: str) -> list[int]:
    return [(await trading.ledger_account(name)).balance_units for name in names]


async def test_stake_leaves_what_can_be_spent_and_comes_back_once(owner: Target) -> None:
    async with trading_on(owner) as trading:
        alice = await funded(trading, 10 * AITBC)
        main, stake = f"{alice}/main", f"{alice}/stake"
        lock = a_transfer(main, stake, 4 * AITBC)
        await asyncio.gather(*(trading.transfer(lock) for _ in range(5)))
        assert await balances(trading, main, stake) == [6 * AITBC, 4 * AITBC]
        assert (await trading.balance(alice)).available_units == 6 * AITBC
        with pytest.raises(TransferDiffers):
            await trading.transfer(structs.replace(lock, amount_units=AITBC))
        with pytest.raises(InsufficientFunds):
            await trading.transfer(a_transfer(stake, main, 5 * AITBC))
        await trading.transfer(a_transfer(stake, main, 4 * AITBC))
        assert await balances(trading, main, stake) == [10 * AITBC, 0]
        await require_sound(trading)


async def test_money_moves_between_allowed_purposes_only(owner: Target) -> None:
    async with trading_on(owner) as trading:
        alice, bob = await funded(trading, AITBC), await funded(trading, AITBC)
        refused = [
            (f"{alice}/main", f"{bob}/main"),
            (f"{alice}/main", f"{bob}/stake"),
            (f"{alice}/stake", "system/treasury"),
            ("system/treasury", f"{bob}/stake"),
            ("system/issuance", "system/treasury"),
            ("system/escrow", f"{bob}/main"),
            ("system/fees", f"{bob}/main"),
            ("nobody/main", f"{bob}/main"),
            (f"{alice}/main", f"{alice}/main"),
        ]
        for source, target in refused:
            with pytest.raises(TransferNotAllowed):
                await trading.transfer(a_transfer(source, target))
        assert await balances(trading, f"{alice}/main", f"{bob}/main") == [AITBC, AITBC]


async def test_the_treasury_is_never_overdrawn(owner: Target) -> None:
    async with trading_on(owner) as trading:
        alice = await funded(trading, 10 * AITBC)
        await trading.transfer(a_transfer(f"{alice}/main", "system/treasury", 3 * AITBC))
        spending = [trading.transfer(a_transfer("system/treasury", f"{alice}/main", 2 * AITBC)) for _ in range(4)]
        outcomes = await asyncio.gather(*spending, return_exceptions=True)
        assert [type(one) for one in outcomes].count(InsufficientFunds) == 3
        assert await balances(trading, "system/treasury", f"{alice}/main") == [AITBC, 9 * AITBC]
        await require_sound(trading)
