"""Submitting: checked before money moves, paid once, written once."""

import asyncio
import base64
import struct
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement

from aitbc.kernel.database.idempotency import IdempotencyKeyReused
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.modules.ai.models.kinds.kind import InvalidInput
from aitbc.modules.ai.models.kinds.registry import UnknownKind
from aitbc.modules.ai.service.planner import ContradictingModels
from aitbc.modules.ai.service.submissions import MaxPriceTooLow
from aitbc.modules.trading.api import InsufficientFunds, PlaceHold
from tests.modules.ai.make import AITBC, Worker, a_job, a_key, ai_on

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 640, 480, 8, 2, 0, 0, 0) + b"\0\0\0\0"


async def test_one_key_from_twenty_callers_makes_one_job(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(10 * AITBC)
        onces = [a_key(alice, "the same") for _ in range(20)]
        jobs = await asyncio.gather(*(market.ai.submissions.submit(alice, a_job(), once) for once in onces))
        assert len({job.id for job in jobs}) == 1
        assert sum(not once.replayed for once in onces) == 1
        assert len(await market.sql("SELECT id FROM ai.jobs")) == 1
        assert market.trading.available[alice.account] == 10 * AITBC - 5_000_000
        assert market.trading.total == 10 * AITBC


async def test_a_repeated_request_is_answered_even_when_the_money_is_gone(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(5_000_000)
        first = await market.ai.submissions.submit(alice, a_job(), a_key(alice, "k"))
        again = a_key(alice, "k")
        assert (await market.ai.submissions.submit(alice, a_job(), again)).id == first.id
        assert again.replayed
        with pytest.raises(InsufficientFunds):
            await market.submit(alice)


async def test_a_key_with_another_request_is_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        await market.ai.submissions.submit(alice, a_job(), a_key(alice, "k", b"one"))
        with pytest.raises(IdempotencyKeyReused):
            await market.ai.submissions.submit(alice, a_job(), a_key(alice, "k", b"two"))


async def test_the_same_key_of_two_accounts_makes_two_jobs(owner: Target) -> None:
    async with ai_on(owner) as market:
        people = [market.person(), market.person()]
        jobs = await asyncio.gather(*(market.submit(who, a_key(who, "k")) for who in people for _ in range(5)))
        assert len(set(jobs)) == 2
        assert await market.submit(people[1], a_key(people[1], "k")) in jobs


async def test_a_balance_for_ten_admits_ten_of_two_hundred(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(50_000_000)
        count = 200
        done = await asyncio.gather(*(market.submit(alice) for _ in range(count)), return_exceptions=True)
        assert sum(isinstance(job, str) for job in done) == 10
        assert all(isinstance(job, str | InsufficientFunds) for job in done)
        assert len(await market.sql("SELECT id FROM ai.jobs")) == 10


@pytest.mark.parametrize(
    ("wishes", "error"),
    [
        ({"kind": "paint"}, UnknownKind),
        ({"value": {}}, InvalidInput),
        ({"value": {"texts": []}}, InvalidInput),
        ({"value": {"texts": ["a"] * 257}}, InvalidInput),
        ({"value": {"texts": ["é" * 5000]}}, InvalidInput),
        ({"value": {"texts": ["a", 5]}}, InvalidInput),
        ({"value": {"texts": ["a"], "colour": 1}}, InvalidInput),
        ({"value": {"texts": ["x" * 8000] * 200}}, InvalidInput),
        ({"value": {"texts": ["a"], "model": "one"}, "model": "two"}, ContradictingModels),
        ({"kind": "ocr", "value": {"image": "!!"}}, InvalidInput),
        ({"kind": "ocr", "value": {"image": base64.b64encode(b"GIF89a" + b"\0" * 40).decode()}}, InvalidInput),
        ({"kind": "ocr", "value": {"image": {"artifact": "art_nothing"}}}, InvalidInput),
        ({"kind": "chat", "value": {"messages": [{"role": "king", "content": "hi"}]}}, InvalidInput),
        ({"kind": "command", "value": {"program": "../sh"}}, InvalidInput),
        ({"max_price": "0"}, InvalidAmount),
        ({"max_price": "1e3"}, InvalidAmount),
        ({"max_price": "0.00000001"}, MaxPriceTooLow),
    ],
)
async def test_what_is_wrong_is_refused_before_money_moves(owner: Target, wishes: dict[str, Any], error: Any) -> None:
    async with ai_on(owner) as market:
        alice = market.person(AITBC)
        with pytest.raises(error):
            await market.submit(alice, **wishes)
        assert market.trading.holds == {}
        assert await market.sql("SELECT id FROM ai.jobs") == []


async def test_a_quote_changes_nothing_and_says_what_it_would_cost(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market, kinds=("ocr",))
        async with market.ai.db.unit_of_work() as uow:
            await market.ai.on_miners_changed(uow, [miner.changed()])
        job = a_job(kind="ocr", value={"image": base64.b64encode(PNG).decode()}, max_price="0.001")
        quote = await market.ai.quotes.quote(alice, job)
        assert (quote.units, quote.price_max, quote.sufficient) == (640 * 480, "0.003072", False)
        assert (quote.fee_basis_points, quote.fee_max) == (250, "0.0000768")
        assert (quote.miners_eligible, quote.position) == (1, 1)
        assert market.trading.holds == {}
        assert await market.sql("SELECT id FROM ai.jobs") == []


class _Failing:
    """Fails at the nth statement that reaches the driver."""

    fail_at = 10**9
    count = 0


def _sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        async def call(self: Any, query: Any = "", *args: Any, **kwargs: Any) -> Any:
            _Failing.count += not str(query).startswith(("BEGIN", "ROLLBACK", "SAVEPOINT"))
            if _Failing.count != _Failing.fail_at:
                return await (real(self, query, *args, **kwargs) if query != "" else real(self))
            if str(query).startswith("COMMIT"):  # a commit that fails has rolled back
                await real(self, "ROLLBACK")
            _Failing.count += 1
            raise asyncpg.exceptions.QueryCanceledError("on purpose")  # which is not tried again

        monkeypatch.setattr(owner, name, call)

    watch(asyncpg.Connection, "execute")
    watch(asyncpg.Connection, "fetch")
    watch(asyncpg.Connection, "executemany")
    watch(PreparedStatement, "fetch")


@pytest.mark.parametrize("command", ["submit", "complete", "cancel", "fail"])
async def test_the_nth_statement_fails_and_nothing_is_half_done(
    owner: Target, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(10 * AITBC), Worker(market)
        await miner.deliver(await _new_lease(market, alice, miner))  # everything is warm now
        _sabotage(monkeypatch)
        failed = 0
        for n in range(1, 30):
            lease: Any = None if command == "submit" else await _new_lease(market, alice, miner)
            job = lease.job if lease else ""
            _Failing.count, _Failing.fail_at = 0, n
            try:
                match command:
                    case "submit":
                        job = await market.submit(alice)
                    case "complete":
                        await miner.deliver(lease)
                    case "cancel":
                        await market.ai.stops.cancel(alice, job, a_key(alice))
                    case _:
                        await miner.fail(lease, "unknown")
            except (AppError, asyncpg.PostgresError):
                failed += 1
                _Failing.fail_at = 10**9
                if lease is not None:
                    assert await market.state(job) == "leased"
                    await miner.deliver(lease)
            else:
                _Failing.fail_at = 10**9
                if command == "submit":
                    await miner.deliver(await miner.take())
                break
            finally:
                _Failing.fail_at = 10**9
            await market.require_sound()
        assert failed >= 2
        known = {ids.encode("hold", row["id"]) for row in await market.sql("SELECT id FROM ai.jobs")}
        assert {hold.id for hold in market.trading.holds.values() if hold.state == "open"} <= known
        assert market.trading.total == 10 * AITBC


async def _new_lease(market: Any, alice: Any, miner: Worker) -> Any:
    await market.submit(alice)
    return await miner.take()


async def test_a_forgotten_hold_comes_back_and_others_stay(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(AITBC)
        job = await market.submit(alice)
        orphan = await market.trading.hold(_hold_like(market.trading.holds["hold_" + job[4:]]))
        assert await market.ai.payments.reconcile() == 0  # it may still be on its way
        await market.later(61)
        assert await market.ai.payments.reconcile() == 1
        assert market.trading.holds[orphan.id].state == "voided"
        assert market.trading.holds["hold_" + job[4:]].state == "open"


def _hold_like(hold: Any) -> Any:
    job = ids.new_id("job")
    return PlaceHold(
        hold="hold_" + job[4:],
        payer=hold.payer,
        amount_units=7,
        expires_at=hold.expires_at,
        reference=job,
    )


async def test_an_artifact_is_an_input_by_reference(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        alice, bob, miner = market.person(), market.person(), Worker(market)

        async def upload() -> Any:
            for at in range(0, len(PNG), 7):
                yield PNG[at : at + 7]

        kept = await market.ai.artifacts.store(alice, upload(), None)
        with pytest.raises(InvalidInput):
            await market.submit(bob, kind="ocr", value={"image": {"artifact": kept.id}})
        await market.submit(alice, kind="ocr", value={"image": {"artifact": kept.id}})
        lease = await miner.take()
        assert lease.input == {"image": {"artifact": kept.id, "digest": kept.digest, "bytes": len(PNG)}}
        assert [(file.field, file.artifact, file.digest) for file in lease.files] == [("image", kept.id, kept.digest)]
        assert await market.ai.may_read_artifact(miner.id, kept.id)
        _, pieces = await market.ai.artifacts.open(miner.principal, kept.id)
        assert b"".join(pieces) == PNG
