"""Whatever races, and whatever fails in the middle: each hold ends once, and no unit of money is made or lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import ATTEMPTS_MAX, retry
from aitbc.kernel.database.sql_errors import Busy
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.api import (
    HoldNotOpen,
    InsufficientFunds,
    PayRefund,
    PayRent,
    PlaceHold,
    RaiseHold,
    SettleHold,
)
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import (
    ADMIN,
    a_hold,
    a_rent,
    a_settlement,
    funded,
    once,
    require_sound,
    snapshot,
    sql,
    trading_on,
)
from tests.modules.trading.probe import FailAt, Gate, Injected, ProbedDatabase
from tests.scale import scaled

Act = Callable[[TradingService], Awaitable[Any]]


@pytest.fixture(scope="module", params=["read committed", "serializable"])
def isolated(request: pytest.FixtureRequest, new_ledger: Callable[[], Target]) -> Target:
    """A ledger at either isolation level: its rules must not lean on one of them."""
    owner = new_ledger()
    level = f"ALTER DATABASE {owner.database} SET default_transaction_isolation = '{request.param}'"

    async def alter() -> None:
        async with sql(owner) as connection:
            await connection.execute(level)

    asyncio.run(alter())
    return owner


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for this file, so that its tests share two processes."""
    return "asyncio"


@pytest.fixture(scope="module")
async def services(isolated: Target, anyio_backend: str) -> AsyncIterator[tuple[TradingService, TradingService]]:
    """Two services on one ledger, each with its own way into the database."""
    async with (
        trading_on(isolated, database=ProbedDatabase) as first,
        trading_on(isolated, database=ProbedDatabase) as second,
    ):
        await first.quote_fee(1)
        await second.quote_fee(1)
        yield first, second


def place(command: PlaceHold) -> Act:
    return lambda trading: trading.hold(command)


def settle(command: SettleHold) -> Act:
    return lambda trading: trading.settle(command)


def rent(command: PayRent) -> Act:
    return lambda trading: trading.pay_rent(command)


def refund(hold: PlaceHold, payer: str) -> Act:
    asked = PayRefund(
        hold=hold.hold,
        owner=hold.payer,
        payer=payer,
        reference=hold.reference,
        amount_units=40,
        fee_units=0,
        reason="x",
    )
    return lambda trading: trading.refund(asked)


def void(hold: str) -> Act:
    return lambda trading: trading.void(hold, "canceled")


def raise_to(hold: PlaceHold, units: int) -> Act:
    command = RaiseHold(hold=hold.hold, payer=hold.payer, amount_units=units)
    return lambda trading: trading.raise_hold(command)


def prolong(hold: str) -> Act:
    return lambda trading: trading.prolong([hold], now() + timedelta(hours=2))


def expire() -> Act:
    return lambda trading: trading.expire_holds()


async def interleaved(
    first: TradingService, second: TradingService, acts: tuple[Act, Act], lead: int, then: int
) -> tuple[Any, Any]:
    """The first does `lead` statements, the second `then`, and then both run on; answers results or refusals."""
    gates = Gate(), Gate()
    services: tuple[Any, Any] = (first, second)
    for service, gate in zip(services, gates, strict=True):
        service.db.probe = gate
    tasks = [asyncio.ensure_future(act(service)) for act, service in zip(acts, services, strict=True)]
    for task, gate, steps in zip(tasks, gates, (lead, then), strict=True):
        for _ in range(steps):
            if not await gate.step(task):
                break
    for gate in gates:
        gate.open()
    one, other = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    for service in services:
        service.db.probe = None
    for outcome in (one, other):
        if isinstance(outcome, BaseException) and not isinstance(outcome, AppError):
            raise outcome
    return one, other


ORDERS = scaled(small=((0, 2), (3, 5), (8, 2)), full=((0, 2), (1, 4), (2, 2), (3, 5), (4, 2), (6, 4), (8, 2), (10, 5)))
"""How many statements the first and then the second of two has done before both go on."""
PAIRS = (
    "settle void",
    "void settle",
    "settle settle",
    "void void",
    "settle expire",
    "expire void",
    "hold hold",
    "hold void",
    "rent void",
    "void rent",
    "rent rent",
    "rent expire",
    "rent settle",
    "prolong expire",
    "expire prolong",
    "prolong settle",
    "void prolong",
)


@pytest.mark.parametrize("pair", PAIRS)
async def test_of_two_ends_of_a_hold_one_wins_in_every_order(
    services: tuple[TradingService, TradingService], pair: str
) -> None:
    first, second = services
    for lead, then in ORDERS:
        await _one_race(first, second, pair.split(), lead, then)
    await require_sound(first)
    clock.reset()


async def _one_race(first: TradingService, second: TradingService, pair: list[str], lead: int, then: int) -> None:
    payer = await funded(first, 10)
    fresh = pair[0] == "hold"
    hold = a_hold(payer, 10, lasts=timedelta(hours=1))
    if not fresh:
        await first.hold(hold)
        if "expire" in pair:
            clock.move(timedelta(hours=2))
    miner = await funded(first, 1)
    rival = a_hold(payer, 10)
    makes: dict[str, Callable[[], Act]] = {
        "settle": lambda: settle(a_settlement(hold, 7, miner_account=miner, miner=ids.new_id("mnr"))),
        "rent": lambda: rent(a_rent(hold, 7, owner=miner)),
        "void": lambda: void(hold.hold),
        "expire": expire,
        "hold": lambda: place(hold),
        "prolong": lambda: prolong(hold.hold),
    }
    acts = (makes[pair[0]](), place(rival) if pair == ["hold", "hold"] else makes[pair[1]]())
    if pair in (["settle", "settle"], ["rent", "rent"]):
        acts = (acts[0], acts[0])
    one, other = await interleaved(first, second, acts, lead, then)
    balance = await first.balance(payer)
    if pair == ["hold", "hold"]:
        assert sum(isinstance(outcome, InsufficientFunds) for outcome in (one, other)) == 1
        assert (balance.available_units, balance.held_units) == (0, 10)
    elif fresh:
        assert balance.available_units + balance.held_units == 10
    elif "prolong" in pair:
        await _require_one(first, pair, (one, other), hold.hold)
    elif pair in (["settle", "settle"], ["rent", "rent"]):
        assert one == other and balance.available_units == 3
    else:
        refused = [outcome for outcome in (one, other) if isinstance(outcome, AppError)]
        assert {type(refusal) for refusal in refused} <= {HoldNotOpen}
        settled = any(getattr(outcome, "transaction", None) for outcome in (one, other))
        assert (balance.available_units, balance.held_units) == ((3, 0) if settled else (10, 0))
        paying = bool({"settle", "rent"} & set(pair))
        assert len(refused) == (paying and "expire" not in pair) or "expire" in pair


@pytest.mark.parametrize(
    "pair", ["raise settle", "settle raise", "raise void", "void raise", "raise expire", "expire raise", "raise raise"]
)
async def test_a_hold_that_is_raised_while_it_ends_pays_and_returns_the_same(
    services: tuple[TradingService, TradingService], pair: str
) -> None:
    first, second = services
    for lead, then in scaled(small=((2, 2), (6, 4)), full=((0, 2), (1, 4), (2, 2), (3, 5), (4, 2), (6, 4))):
        payer, miner = await funded(first, 20), await funded(first, 1)
        hold = a_hold(payer, 10, lasts=timedelta(hours=1))
        await first.hold(hold)
        if "expire" in pair:
            clock.move(timedelta(hours=2))
        makes = {
            "settle": settle(a_settlement(hold, 7, miner_account=miner, miner=ids.new_id("mnr"))),
            "void": void(hold.hold),
            "expire": expire(),
            "raise": raise_to(hold, 15),
        }
        one, other = (makes[name] for name in pair.split())
        outcomes = await interleaved(first, second, (one, other), lead, then)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert {type(refusal) for refusal in refused} <= {HoldNotOpen}
        balance = await first.balance(payer)
        expected = (13, 0) if "settle" in pair else (5, 15) if pair == "raise raise" else (20, 0)
        assert (balance.available_units, balance.held_units) == expected
    await require_sound(first)
    clock.reset()


async def _require_one(trading: TradingService, pair: list[str], outcomes: tuple[Any, Any], hold: str) -> None:
    """Of one that was prolonged in time the money is still held; of one that ended before, it is not said to be."""
    prolonged = outcomes[pair.index("prolong")]
    still = list(await trading.still_held([hold]))
    if "expire" in pair:
        assert list(prolonged) == [one.id for one in still]
        if still:
            assert still[0].expires_at > now() + timedelta(hours=1)
            await trading.void(hold, "canceled")
    else:
        assert not still


async def test_parallel_holds_admit_what_the_money_covers(services: tuple[TradingService, TradingService]) -> None:
    payer = await funded(services[0], 10)
    count = 200
    holds = [services[number % 2].hold(a_hold(payer, 1)) for number in range(count)]
    outcomes = await asyncio.gather(*holds, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 10
    await require_sound(services[0])


async def _prepared(trading: TradingService, command: str) -> tuple[Act, Callable[[], None]]:
    """An act whose statements will fail one after the other, on money that is ready for it."""
    payer, miner = await funded(trading, 100), await funded(trading, 1)
    hold = a_hold(payer, 50)
    settlement = a_settlement(hold, 40, miner_account=miner)
    if command != "hold":
        await trading.hold(hold)
    transaction = ""
    if command == "correct settlement":
        transaction = (await trading.settle(settlement)).transaction
    if command == "correct grant":
        transaction = (await trading.deposits.deposit(ADMIN, payer, 5, None, IdempotencyKey.NONE)).id
    if command == "expire":
        clock.move(timedelta(hours=2))
    key = once()
    acts: dict[str, Act] = {
        "hold": place(hold),
        "settle": settle(settlement),
        "rent": rent(a_rent(hold, 40, owner=miner)),
        "refund": refund(hold, miner),
        "void": void(hold.hold),
        "raise": raise_to(hold, 60),
        "prolong": prolong(hold.hold),
        "expire": expire(),
        "deposit": lambda service: service.deposits.deposit(ADMIN, payer, 5, "gift", key),
        "correct settlement": lambda service: service.deposits.correct(ADMIN, transaction, "typo", key),
        "correct grant": lambda service: service.deposits.correct(ADMIN, transaction, "typo", key),
        "seal": lambda service: service.seal(),
    }
    return acts[command], clock.reset


COMMANDS = (
    "hold",
    "settle",
    "rent",
    "refund",
    "void",
    "raise",
    "prolong",
    "expire",
    "deposit",
    "correct settlement",
    "correct grant",
    "seal",
)


@pytest.mark.parametrize("command", scaled(("hold", "settle", "deposit", "expire", "correct settlement"), COMMANDS))
async def test_whichever_statement_fails_nothing_has_happened(empty: Target, command: str) -> None:
    async with trading_on(empty, database=ProbedDatabase) as trading:
        db: Any = trading.db
        for number in range(1, 60):
            act, after = await _prepared(trading, command)
            await trading.quote_fee(1)
            before = await snapshot(empty)
            db.probe = probe = FailAt(number)
            try:
                await act(trading)
            except Injected:
                db.probe = None
                assert await snapshot(empty) == before, probe.seen[-1]
                await act(trading)  # and then it can be done
                after()
                continue
            db.probe = None
            after()
            break
        assert number > 2, "the statements were not counted"
        await require_sound(trading)


async def test_one_bad_command_in_a_batch_fails_alone(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 100)
        good = [a_hold(payer, 1) for _ in range(10)]
        bad = [
            a_hold("acct_nonsense", 1),
            PlaceHold(hold="x", payer=payer, amount_units=1, expires_at=now(), reference="y"),
        ]
        outcomes = await asyncio.gather(
            *(trading.hold(command) for command in [*good[:5], *bad, *good[5:]]), return_exceptions=True
        )
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 10
        await require_sound(trading)


async def test_the_database_itself_refuses_entries_that_do_not_balance(owner: Target) -> None:
    async with trading_on(owner) as trading:
        await funded(trading, 5)
    insert = (
        "INSERT INTO trading.entries (transaction_id, position, account_id, amount_units, balance_after_units,"
        " account_version, created_at) SELECT t.id, v.position, gen_random_uuid(), v.amount, 1, 1, now()"
        " FROM (SELECT {source} AS id) t, (VALUES {values}) AS v(position, amount)"
    )
    existing = "(SELECT id FROM trading.transactions LIMIT 1)"
    async with sql(owner) as connection:
        for source, values in (
            ("gen_random_uuid()", "(0, 5)"),
            ("gen_random_uuid()", "(0, 5), (1, -4)"),
            ("gen_random_uuid()", "(1, 5), (2, -5)"),
            (existing, "(7, 5), (8, -5)"),
            (existing, "(0, 5), (9, -5)"),
        ):
            with pytest.raises(Exception, match=r"sum to zero|duplicate key"):
                await connection.execute(insert.format(source=source, values=values))
        with pytest.raises(Exception, match="not_overdrawn"):
            await connection.execute("UPDATE trading.accounts SET balance_units = -1 WHERE owner <> 'system'")
        with pytest.raises(Exception, match="held_not_negative"):
            await connection.execute("UPDATE trading.accounts SET held_units = -1")
        with pytest.raises(Exception, match="append-only"):
            await connection.execute("UPDATE trading.entries SET amount_units = 1")


async def test_a_transaction_is_done_again_when_the_database_asks_for_it_and_not_for_ever() -> None:
    tries = 0

    async def busy_until(times: int) -> int:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise Busy
        return tries

    assert await retry(lambda: busy_until(3)) == 4
    tries = 0
    with pytest.raises(Busy) as refused:
        await retry(lambda: busy_until(10_000))
    assert (tries, refused.value.status) == (ATTEMPTS_MAX, 503)
    assert refused.value.headers["Retry-After"]
