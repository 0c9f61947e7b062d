"""Assets beside AITBC: defined once, given by deposits, and every transaction sums to zero in each."""

import json

import asyncpg
import pytest

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.crypto.chain_verifier import LedgerReplay
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.legacy.shapes import transaction_of
from aitbc.modules.trading.service.assets import AssetDiffers, AssetNotFound
from aitbc.modules.trading.service.deposits import NotCorrectable
from tests.modules.trading.make import ADMIN, AITBC, once, person, require_sound, sql, trading_on


async def test_accounts_have_what_an_operator_defined_and_gave(owner: Target) -> None:
    who = person()
    async with trading_on(owner) as trading:
        assert (await trading.assets.all())[0].code == "AITBC"
        gold = await trading.assets.define(ADMIN, "GOLD", "Gold")
        assert await trading.assets.define(ADMIN, "GOLD", "Gold") == gold, "the same again changes nothing"
        for code, name in (("GOLD", "Another"), ("AITBC", "AITBC")):
            with pytest.raises(AssetDiffers):
                await trading.assets.define(ADMIN, code, name)
        with pytest.raises(AssetNotFound):
            await trading.deposits.deposit(ADMIN, who.account, 5, None, once(), "SILVER")
        given = await trading.deposits.deposit(ADMIN, who.account, 3 * AITBC, "welcome", once(), "GOLD")
        assert [(entry.asset, entry.amount) for entry in given.entries] == [("GOLD", "-3"), ("GOLD", "3")]
        assert transaction_of(given).value == "0", "older clients know AITBC only"
        await trading.deposits.deposit(ADMIN, who.account, 7 * AITBC, None, once())
        had = {one.asset: one.owned for one in await trading.assets.of_account(who, who.account)}
        assert had == {"AITBC": "7", "GOLD": "3"}
        assert (await trading.balance(who.account)).available_units == 7 * AITBC, "AITBC is not mixed with others"
        assert (await trading.explorer.account(who, who.account)).owned == "7"
        lines = await trading.explorer.entries(who, who.account, limit=10, before=None, asset="GOLD")
        assert [(line.asset, line.after) for line in lines] == [("GOLD", "3")]
        with pytest.raises(HolderNotFound):
            await trading.assets.of_account(person(), who.account)
        await require_sound(trading)

        corrected = await trading.deposits.correct(ADMIN, given.id, "a mistake", once())
        assert {entry.asset for entry in corrected.entries} == {"GOLD"}
        with pytest.raises(NotCorrectable):
            await trading.deposits.correct(ADMIN, corrected.id, "a mistake", once())
        await require_sound(trading)


async def test_the_database_refuses_what_does_not_sum_to_zero_in_each(owner: Target) -> None:
    async with trading_on(owner) as trading:
        await trading.assets.define(ADMIN, "IRON", "Iron")
    wrong = """INSERT INTO trading.entries (transaction_id, position, account_id, amount_units, balance_after_units,
        account_version, created_at, asset) SELECT gen_random_uuid(), p, gen_random_uuid(), a, a, 1, now(), s
        FROM (VALUES (0, 5, NULL), (1, -5, 'IRON')) v(p, a, s)"""
    async with sql(owner) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="do not sum to zero"):
            await connection.execute(wrong)


def a_record(kind: str, reference: str | None, *entries: tuple[str, int, int, int, str | None]) -> dict[str, object]:
    """A record of a transaction, as a block seals it."""
    parts = [
        {"account": account, "amount": _text(amount), "balance": _text(balance), "version": version}
        | ({} if asset is None else {"asset": asset})
        for account, amount, balance, version, asset in entries
    ]
    record = {"at": "2030-01-01T00:00:00.000000Z", "entries": parts, "hold": None, "id": ids.new_id("txn")}
    record |= {"kind": kind, "reason": None, "reference": reference, "version": chain_format.TRANSACTION}
    return dict(json.loads(json.dumps(record)))


def _text(whole: int) -> str:
    return str(whole)


def given(mine: str) -> LedgerReplay:
    """A ledger in which somebody has 5 of GOLD and 2 of AITBC."""
    replay = LedgerReplay()
    replay.apply(a_record("deposit", None, ("system/issuance", -5, -5, 1, "GOLD"), (mine, 5, 5, 1, "GOLD")))
    replay.apply(a_record("deposit", None, ("system/issuance", -2, -2, 1, None), (mine, 2, 2, 1, None)))
    return replay


def test_replaying_tells_assets_apart() -> None:
    mine = f"{ids.new_id('acct')}/main"
    replay = given(mine)
    replay.check_balanced()
    assert replay.accounts[f"{mine}:GOLD"] == (5 * AITBC, 1)
    forged = {
        "do not sum to zero": (("system/issuance", -1, -6, 2, "GOLD"), (mine, 1, 3, 2, None)),
        "not an asset": (("system/issuance", -1, -3, 2, "AITBC"), (mine, 1, 3, 2, "AITBC")),
        "not a.* asset": (("system/issuance", -1, -1, 1, "A:B"), (mine, 1, 1, 1, "A:B")),
        "escrow moved": ((mine, -1, 4, 2, "GOLD"), ("system/escrow", 1, 1, 1, "GOLD")),
    }
    for said, entries in forged.items():
        with pytest.raises(ChainError, match=said):
            given(mine).apply(a_record("deposit", None, *entries))
