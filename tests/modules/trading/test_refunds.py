"""Refunds: what was paid goes back once, with the fee of it, and is earned and spent no longer."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.crypto.chain_verifier import LedgerReplay
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.api import HoldDiffers, HoldNotOpen, PayRefund, PlaceHold, PriceAboveHold
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import AITBC, a_hold, a_rent, funded, require_sound, sql, trading_on
from tests.modules.trading.test_chain import _record

NAMES = ("balance_units", "held_units", "earned_units", "spent_units")


async def paid(trading: TradingService) -> tuple[str, str, int, int]:
    """A payer of 100 units, an owner who was paid, what it earned, and the fee."""
    payer, owner = await funded(trading, AITBC), await funded(trading, 1)
    hold = a_hold(payer, 1000)
    await trading.hold(hold)
    rent = await trading.pay_rent(a_rent(hold, 1000, owner=owner))
    return payer, owner, rent.earned_units, rent.fee_units


async def set_aside(trading: TradingService, owner: str, units: int) -> PlaceHold:
    """A hold on the owner's account."""
    until = now() + timedelta(days=1)
    hold = PlaceHold(
        hold=ids.new_id("hold"),
        payer=owner,
        amount_units=units,
        expires_at=until,
        reference="dspt_1",
        fee_basis_points=0,
        is_spent=False,
    )
    await trading.hold(hold)
    return hold


async def test_what_was_paid_goes_back_once_with_its_fee_and_nobody_has_earned_or_spent_it(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer, seller, earned, fee = await paid(trading)
        hold = await set_aside(trading, seller, earned)
        back = PayRefund(
            hold=hold.hold,
            owner=seller,
            payer=payer,
            reference="dspt_1",
            amount_units=earned - 100,
            fee_units=fee,
            reason="decided",
        )
        refused = [
            (structs.replace(back, reference="other"), HoldDiffers),
            (structs.replace(back, owner=payer), HoldDiffers),
            (structs.replace(back, payer=seller), HoldDiffers),
            (structs.replace(back, amount_units=earned + 1), PriceAboveHold),
            (structs.replace(back, amount_units=0), PriceAboveHold),
            (structs.replace(back, fee_units=-1), PriceAboveHold),
        ]
        for command, error in refused:
            with pytest.raises(error):
                await trading.refund(command)
        done = await asyncio.gather(*(trading.refund(back) for _ in range(4)))
        assert {one.amount_units for one in done} == {earned - 100 + fee}
        assert len({one.transaction for one in done}) == 1
        with pytest.raises(HoldNotOpen):
            await trading.refund(structs.replace(back, amount_units=1))
        async with sql(owner) as database:
            rows = await database.fetch("SELECT * FROM trading.accounts")
        found = {f"{row['owner']}/{row['purpose']}": [row[name] for name in NAMES] for row in rows}
        assert found[f"{payer}/main"] == [AITBC - 100, 0, 0, 100]
        assert found[f"{seller}/main"] == [101, 0, 100, 0]
        assert found["system/fees"][0] == found["system/fees"][2] == 0
        await trading.seal()
        await require_sound(trading)


ISSUED = ("deposit", {"system/issuance": -100, "acct_o/main": 100})
HELD = ("hold", {"acct_o/main": -90, chain_format.ESCROW: 90})


@pytest.mark.parametrize(
    ("moves", "error"),
    [
        ({"acct_p/main": 62, chain_format.FEES: -2, "acct_o/main": 30}, None),
        ({"acct_p/main": 90}, None),
        ({"acct_p/main": 60, "acct_q/main": 30}, "another number of payers"),
        ({"acct_o/main": 90}, "another number of payers"),
        ({"system/treasury": 90}, "another number of payers"),
        ({"acct_p/stake": 90}, "another number of payers"),
        ({"acct_p/main": 60, chain_format.FEES: 30}, "by the hold and the fees"),
        ({"acct_p/main": 95, "acct_o/main": -5}, "by the hold and the fees"),
        ({"acct_p/main": 95, chain_format.FEES: -95, "acct_o/main": 90}, "by the hold and the fees"),
    ],
)
def test_the_chain_lets_a_refund_go_to_its_payer_alone(moves: dict[str, int], error: str | None) -> None:
    books, before = LedgerReplay(), dict[str, tuple[int, int]]()
    for kind, entries in (ISSUED, HELD):
        books.apply(_record(kind, entries, before))
    refund: dict[str, Any] = _record("refund", {chain_format.ESCROW: -90, **moves}, before)
    if error is None:
        books.apply(refund)
        books.check_balanced()
        return
    with pytest.raises(ChainError, match=error):
        books.apply(refund)
