"""Blocks, receipts, exports: what was sealed can be proved, and what was changed is found and named."""

import asyncio
import io
import itertools
import json
import random
import tracemalloc
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.crypto.chain_verifier import LedgerReplay, verify_export
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.service import TradingService
from aitbc_cli.anchors import Anchored, check_anchors, read_anchors
from tests.modules.trading.make import (
    ADMIN,
    NODE,
    a_hold,
    a_rent,
    a_settlement,
    funded,
    require_sound,
    trading_on,
)
from tests.scale import scaled


async def a_history(trading: TradingService, *, jobs: int = 3) -> list[str]:
    """Deposits, holds, settlements, a rent, a void and a correction over several blocks; answers the receipts."""
    payer, miner = await funded(trading, 1_000_000), await funded(trading, 0)
    receipts = []
    for number in range(jobs):
        hold = a_hold(payer, 100 + number)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, 50 + number, miner_account=miner))
        receipts.append(settled.receipt)
        if number % 2:
            await trading.seal()
    rented = a_hold(payer, 90)
    await trading.hold(rented)
    await trading.pay_rent(a_rent(rented, 60, owner=miner))
    voided = a_hold(payer, 5)
    await trading.hold(voided)
    await trading.void(voided.hold, "canceled")
    deposit = await trading.deposits.deposit(ADMIN, payer, 77, 'quote " and ü', IdempotencyKey.NONE)
    await trading.deposits.correct(ADMIN, deposit.id, "typo", IdempotencyKey.NONE)
    await trading.hold(a_hold(payer, 9))
    await trading.seal()
    return receipts


async def export_of(trading: TradingService) -> bytes:
    return b"".join([piece async for piece in trading.explorer.export()])


async def test_first_starts_at_once_make_one_first_block(empty: Target) -> None:
    async with AsyncExitStack() as stack:
        starts = (stack.enter_async_context(trading_on(empty, fee_basis_points=300)) for _ in range(4))
        first, *_ = await asyncio.gather(*starts)
        blocks = await first.explorer.blocks(limit=10, before=None)
        assert [block.height for block in blocks] == [0]
        assert blocks[0].previous is None and blocks[0].records == 0
        assert await first.fees.in_force() == 300


async def test_blocks_follow_each_other_without_a_gap(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading)
        blocks = (await trading.explorer.blocks(limit=100, before=None))[::-1]
        assert [block.height for block in blocks] == list(range(len(blocks))) and len(blocks) > 2
        for before, block in itertools.pairwise(blocks):
            assert block.previous == before.hash
            assert block.first_sequence == before.first_sequence + before.records
            records = await trading.explorer.block_records(str(block.height), limit=1000, after=None)
            assert len(records) == block.records
        await trading.seal()
        assert (await trading.explorer.block("head")).height == blocks[-1].height
        await require_sound(trading)


async def test_sealers_at_once_wait_for_each_other_and_leave_one_chain(empty: Target) -> None:
    async with trading_on(empty) as first, trading_on(empty) as second:
        for _ in range(5):
            await a_history(first, jobs=2)
            await first.deposits.deposit(ADMIN, ids.new_id("acct"), 5, None, IdempotencyKey.NONE)
            await asyncio.gather(first.seal(), second.seal(), first.seal())
        await require_sound(first)


async def test_a_receipt_carries_its_proof_once_it_is_sealed(empty: Target) -> None:
    async with trading_on(empty) as trading:
        hold = a_hold(await funded(trading, 10), 5)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, 5))
        fresh = await trading.explorer.receipt(settled.receipt)
        assert fresh.proof is None
        receipts = [settled.receipt, *await a_history(trading, jobs=9)]
        for receipt in receipts:
            sealed = await trading.explorer.receipt(receipt)
            checked = chain_format.verify_receipt(msgspec.json.encode(sealed), trusted_keys=[NODE.public])
            assert checked.height is not None and checked.receipt["id"] == receipt


async def test_an_export_is_verified_offline(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading)
        raw = await export_of(trading)
        checked = verify_export(io.BytesIO(raw), trusted_keys=[NODE.public])
        report = await trading.verify()
        assert (checked.transactions, checked.entries, checked.receipts) == (report.transactions, report.entries, 3)
        assert checked.head == (await trading.explorer.block("head")).hash == report.head
        assert verify_export(io.BytesIO(raw), head=checked.head) == checked
        with pytest.raises(ChainError, match="another block"):
            verify_export(io.BytesIO(raw), head=checked.chain)
        with pytest.raises(ChainError, match="not a key you trust"):
            verify_export(io.BytesIO(raw), trusted_keys=[Key(bytes(32)).public])


async def test_any_changed_byte_of_an_export_is_found_and_named(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading, jobs=4)
        raw = await export_of(trading)
    heights = block_of_each_byte(raw)
    chance = random.Random(11)
    for _ in range(scaled(200, 1000)):
        at = chance.randrange(len(raw))
        changed = bytearray(raw)
        changed[at] ^= chance.randrange(1, 256)
        with pytest.raises(ChainError) as found:
            verify_export(io.BytesIO(bytes(changed)))
        assert found.value.height is not None and found.value.field
        assert found.value.height - heights[at] in (0, 1), (str(found.value), heights[at])


def block_of_each_byte(raw: bytes) -> list[int]:
    """The height that each byte of an export belongs to."""
    heights, height = [], 0
    for line in raw.splitlines(keepends=True):
        if line.startswith(b'{"block"'):
            height = json.loads(line)["block"]["height"]
        heights += [height] * len(line)
    return heights


@pytest.mark.parametrize("change", ["cut", "drop_line", "swap_lines", "repeat_line", "drop_block"])
async def test_lines_that_are_missing_or_moved_are_found(empty: Target, change: str) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading, jobs=4)
        lines = (await export_of(trading)).splitlines(keepends=True)
    blocks = [number for number, line in enumerate(lines) if line.startswith(b'{"block"')]
    for at in range(len(lines)):
        changed = list(lines)
        match change:
            case "cut":
                changed = lines[:at]
            case "drop_line":
                del changed[at]
            case "swap_lines":
                changed[at - 1], changed[at] = changed[at], changed[at - 1]
            case "repeat_line":
                changed.insert(at, changed[at])
            case "drop_block":
                if at not in blocks:
                    continue
                end = next((number for number in blocks if number > at), len(lines) - 1)
                del changed[at:end]
        with pytest.raises(ChainError):
            verify_export(io.BytesIO(b"".join(changed)))


async def test_the_node_may_change_its_key(empty: Target) -> None:
    new = Key(bytes([9]) * 32)
    async with trading_on(empty) as trading:
        await a_history(trading, jobs=1)
    async with trading_on(empty, key=new) as trading:
        await a_history(trading, jobs=1)
        assert [key.public_key for key in await trading.explorer.keys()] == [NODE.public, new.public]
        raw = await export_of(trading)
        assert verify_export(io.BytesIO(raw)).keys == {NODE.public, new.public}
        with pytest.raises(ChainError, match="not a key you trust"):
            verify_export(io.BytesIO(raw), trusted_keys=[NODE.public])
        await require_sound(trading)


async def test_verifying_needs_no_memory_for_what_is_long_past(empty: Target) -> None:
    async with trading_on(empty) as trading:
        payer, miner = await funded(trading, 1_000_000), await funded(trading, 0)
        hold = a_hold(payer, 10)
        await trading.hold(hold)
        await trading.settle(a_settlement(hold, 5, miner_account=miner))

        async def work(number: int) -> None:
            again = a_hold(payer, 10)
            await trading.hold(again)
            await trading.void(again.hold, "canceled")

        async def peak(jobs: int) -> tuple[int, int]:
            for _ in range(jobs // 100):
                await asyncio.gather(*(work(number) for number in range(100)))
                await trading.seal()
            raw = io.BytesIO(await export_of(trading))
            tracemalloc.start()
            checked = verify_export(raw)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return checked.entries, most

        few, small = await peak(scaled(100, 300))
        many, large = await peak(scaled(1000, 3000))
        assert many > 8 * few
        assert large < small + 300_000


def _record(kind: str, moves: dict[str, int], before: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """A transaction of a hold, as a record that follows from the balances before it."""
    entries = []
    for account, units in moves.items():
        balance, version = before.get(account, (0, 0))
        before[account] = (balance + units, version + 1)
        amounts = {"amount": render(units), "balance": render(balance + units)}
        entries.append({"account": account, "version": version + 1, **amounts})
    named = {"hold": None if kind == "deposit" else "hold_1", "reference": "book_1", "reason": "ended"}
    return {
        "version": chain_format.TRANSACTION,
        "at": "x",
        "id": f"txn_{kind}",
        "kind": kind,
        "entries": entries,
        **named,
    }


@pytest.mark.parametrize(
    ("moves", "field"),
    [
        ({"acct_o/main": 60, chain_format.FEES: 2, "acct_p/main": 28}, None),
        ({"acct_p/main": 90}, None),
        ({"acct_o/main": 60, "acct_q/main": 2, "acct_p/main": 28}, "entries"),
        ({"acct_o/main": 118, "acct_p/main": -28}, "entries"),
        ({"acct_o/main": 118, chain_format.FEES: -28}, "entries"),
        ({"system/issuance": 90}, "entries"),
        ({"acct_o/main": 91}, "entries"),
    ],
)
def test_a_rent_goes_to_one_owner_the_fees_and_its_payer(moves: dict[str, int], field: str | None) -> None:
    books, before = LedgerReplay(), dict[str, tuple[int, int]]()
    books.apply(_record("deposit", {"system/issuance": -100, "acct_p/main": 100}, before))
    books.apply(_record("hold", {"acct_p/main": -90, chain_format.ESCROW: 90}, before))
    rent = _record("rent", {chain_format.ESCROW: -90, **moves}, before)
    if field is None:
        books.apply(rent)
        books.check_balanced()
        return
    with pytest.raises(ChainError) as refusal:
        books.apply(rent)
    assert refusal.value.field.startswith(field)


ISSUED, HELD, RETURNED = (
    ("deposit", {"system/issuance": -100, "acct_p/main": 100}),
    ("hold", {"acct_p/main": -90, chain_format.ESCROW: 90}),
    ("void", {chain_format.ESCROW: -90, "acct_p/main": 90}),
)


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ([("deposit", {"system/issuance": -100, "acct_p/main": 101})], "do not sum to zero"),
        ([ISSUED, ("deposit", {"acct_p/main": -150, "acct_q/main": 150})], "overdrawn"),
        ([ISSUED, ("hold", {"acct_p/main": -150, chain_format.ESCROW: 150})], "overdrawn"),
        ([ISSUED, HELD, RETURNED, RETURNED], "was not open"),
        ([ISSUED, HELD, HELD], "overdrawn|cannot be placed"),
        ([ISSUED, HELD, ("settle", RETURNED[1]), RETURNED], "has no receipt"),
        ([ISSUED, HELD, ("void", {chain_format.ESCROW: -90, "acct_q/main": 90})], "did not return"),
        ([ISSUED, HELD, ("void", {chain_format.ESCROW: -80, "acct_p/main": 80})], "was not open"),
        ([ISSUED, ("deposit", {"acct_p/main": -90, chain_format.ESCROW: 90})], "without a hold"),
    ],
)
def test_a_story_that_does_not_add_up_is_found_though_the_node_may_have_signed_it(
    records: list[tuple[str, dict[str, int]]], error: str
) -> None:
    books, before = LedgerReplay(), dict[str, tuple[int, int]]()
    *right, wrong = [_record(kind, moves, before) for kind, moves in records]
    for record in right:
        books.apply(record)
    with pytest.raises(ChainError, match=error):
        books.apply(wrong)


@pytest.mark.parametrize(("part", "value"), [("balance", "5"), ("version", 3)])
def test_an_entry_that_is_hidden_shows_in_the_next_one(part: str, value: object) -> None:
    books = LedgerReplay()
    record: dict[str, Any] = _record("deposit", {"system/issuance": -100, "acct_p/main": 100}, {})
    record["entries"][1][part] = value
    with pytest.raises(ChainError) as refusal:
        books.apply(record)
    assert refusal.value.field == f"entries/1/{part}"


async def test_heads_are_anchored_and_an_export_is_held_against_them(empty: Target, tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    async with trading_on(empty, anchor_file=str(file), anchor_seconds=60) as trading:
        assert await trading.anchors.anchor()
        assert not await trading.anchors.anchor()  # the same head
        await a_history(trading)
        assert not await trading.anchors.anchor()  # not so soon
        clock.move(timedelta(seconds=61))
        assert await trading.anchors.anchor()
        export = await export_of(trading)
    anchors = read_anchors(io.BytesIO(file.read_bytes()))
    assert (await found(export, anchors)).count == 2
    newest = max(anchors)
    forged = {**anchors, newest: {**anchors[newest], "hash": chain_format.name_digest(bytes(32))}}
    with pytest.raises(ChainError, match="not the one that was anchored"):
        await found(export, forged)
    with pytest.raises(ChainError, match="was cut"):
        await found(export, {**anchors, newest + 1: anchors[newest]})
    with pytest.raises(ChainError, match="no anchor"):
        read_anchors(io.BytesIO(b"nothing of the kind\n"))
    changed = file.read_bytes().replace(b'"records":', b'"records":1', 1)
    with pytest.raises(ChainError):
        read_anchors(io.BytesIO(changed))


async def found(export: bytes, anchors: Any) -> Anchored:
    """What an export says of some anchors."""
    verify_export(io.BytesIO(export))
    return check_anchors(io.BytesIO(export), anchors)


async def test_a_file_that_cannot_be_written_hinders_nothing(empty: Target, tmp_path: Path) -> None:
    async with trading_on(empty, anchor_file=str(tmp_path / "away" / "anchors.jsonl")) as trading:
        assert not await trading.anchors.anchor()
