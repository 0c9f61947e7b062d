"""The rules of batches, with a clock that is moved and a miner by hand: time, money, crashes between two steps."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.modules.ai.protocols import line_formats  # noqa: F401 - it tells how lines are read
from aitbc.modules.ai.service.batches.batches import NewBatch
from aitbc.modules.ai.service.batches.formats import LINE_BYTES_MAX
from aitbc.modules.ai.service.batches.intake import LINES_MAX, pieces_of
from aitbc.modules.ai.service.batches.views import Batch
from aitbc.modules.ai.service.stored_files import NewFile
from tests.modules.ai.make import AITBC, Market, Worker, ai_on
from tests.scale import only_in_full

EMBED = "/v1/embeddings"
LIST_PRICE = 10


def line(name: str, text: str = "0123456789") -> bytes:
    """A line of ten bytes of text."""
    body = {"model": "tiny", "input": text}
    return json.dumps({"custom_id": name, "method": "POST", "url": EMBED, "body": body}).encode() + b"\n"


class Bench:
    """A market with a miner, and batches that are driven by hand."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.ai = market.ai
        self.miner = Worker(market, models={"embed": ("tiny",)})

    async def tell(self, version: int) -> None:
        """Have the fleet know what the miner serves."""
        async with self.ai.db.unit_of_work() as uow:
            await self.ai.on_miners_changed(uow, [self.miner.changed(version)])

    async def batch(self, who: Principal, content: bytes) -> str:
        """A batch of this input."""

        async def stream() -> AsyncIterator[bytes]:
            yield content

        artifact = await self.ai.artifacts.store(who, stream(), None)
        new = NewFile(name="in", purpose="batch", keep_seconds=None, artifact=artifact, is_own=True)
        file = await self.ai.files.add(who, new)
        wanted = NewBatch(
            endpoint=EMBED, input_file=file.id, output_seconds=None, labels=None, fingerprint="", is_repeated=False
        )
        return (await self.ai.batches.create(who, wanted, IdempotencyKey.NONE)).id

    async def work(self, slots: int = 64) -> None:
        """Do all that waits."""
        for lease in await self.miner.claim(slots):
            await self.miner.deliver(lease)

    async def drive(self, rounds: int = 1) -> None:
        """Some rounds of the periodic task."""
        for _ in range(rounds):
            await self.ai.drive_batches()

    async def end(self, who: Principal, batch: str) -> Batch:
        """Drive and work until a batch has ended."""
        for _ in range(20):
            await self.drive()
            await self.work()
            if (now := await self.ai.batches.get(who, batch)).ended_at is not None:
                return now
        raise AssertionError(now)

    async def told(self, who: Principal, file: str | None) -> list[Any]:
        """The lines of a file."""
        assert file is not None
        found = await self.ai.files.get(who, file)
        return [json.loads(one) for one in b"".join(await self.ai.artifacts.pieces_of(found.artifact)).splitlines()]


@pytest.fixture
async def bench(owner: Target, tmp_path: Path) -> AsyncIterator[Bench]:
    async with ai_on(owner, state_dir=tmp_path) as market:
        made = Bench(market)
        await made.tell(1)
        yield made
        await market.require_sound()


async def test_lines_cost_half_and_are_done_after_everything_else(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a") + line("b"))
    await bench.drive(2)
    (job,) = await bench.market.sql("SELECT DISTINCT priority, unit_price_units, max_price_units FROM ai.jobs")
    assert tuple(job) == (0, LIST_PRICE // 2, 10 * LIST_PRICE // 2)
    done = await bench.end(who, batch)
    assert (done.status, done.requests, done.completed, done.failed) == ("completed", 2, 2, 0)
    assert done.spent == "0.000001" and done.model == "tiny" and done.error_file is None
    assert [one["custom_id"] for one in await bench.told(who, done.output_file)] == ["a", "b"]
    assert await bench.market.sql("SELECT * FROM ai.batch_lines") == []
    (event,) = await bench.market.sql("SELECT body FROM ai.outbox WHERE kind = 'ai.batch_ended'")
    assert json.loads(event["body"])["output_file"] == done.output_file


async def test_a_process_that_died_between_a_job_and_its_note_submits_it_once(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a") + line("b"))
    await bench.drive(2)
    await bench.market.sql("UPDATE ai.batch_lines SET state = 'waiting', job = NULL")
    gone = structs.replace(bench.miner.capabilities, models={})  # meanwhile nobody serves the model any more
    bench.miner.capabilities, serving = gone, bench.miner.capabilities
    await bench.tell(2)
    await bench.drive()
    assert len(await bench.market.sql("SELECT id FROM ai.jobs")) == 2
    rows = await bench.market.sql("SELECT state, job FROM ai.batch_lines")
    assert {row["state"] for row in rows} == {"open"} and len({row["job"] for row in rows}) == 2
    bench.miner.capabilities = serving
    await bench.tell(3)
    assert (await bench.end(who, batch)).completed == 2


async def test_a_process_that_died_between_the_files_and_the_end_writes_the_same_ones(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a") + b"bad\n")
    await bench.drive(2)
    await bench.work()
    await bench.market.sql("ALTER TABLE ai.files ADD CONSTRAINT refuses CHECK (purpose = 'batch') NOT VALID")
    try:
        await bench.drive(3)
        assert (await bench.ai.batches.get(who, batch)).status == "finalizing"
    finally:
        await bench.market.sql("ALTER TABLE ai.files DROP CONSTRAINT refuses")
    done = await bench.end(who, batch)
    assert (done.status, done.completed, done.failed) == ("completed", 1, 1)
    assert len(await bench.market.sql("SELECT id FROM ai.artifacts")) == 3


async def test_what_is_not_done_in_a_day_expires_and_costs_nothing(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a") + line("b") + line("c"))
    await bench.drive(2)
    await bench.miner.claim(1)
    clock.move(timedelta(hours=25))
    await bench.ai.sweep()
    done = await bench.end(who, batch)
    assert (done.status, done.completed, done.failed) == ("expired", 0, 3) and done.output_file is None
    errors = await bench.told(who, done.error_file)
    assert [one["error"]["code"] for one in errors] == ["batch_expired"] * 3
    assert bench.market.trading.available[who.account] == 100 * AITBC


async def test_a_line_waits_for_the_money_that_others_of_its_batch_hold(bench: Bench) -> None:
    who = bench.market.person(units=2 * 50)
    batch = await bench.batch(who, b"".join(line(str(number)) for number in range(4)))
    await bench.drive(3)
    assert len(await bench.market.sql("SELECT id FROM ai.jobs")) == 2
    clock.move(timedelta(seconds=90))
    await bench.drive(2)
    assert len(await bench.market.sql("SELECT line FROM ai.batch_lines WHERE state = 'waiting'")) == 2
    await bench.work()  # it is all spent now
    await bench.drive(2)
    clock.move(timedelta(seconds=90))
    await bench.drive()
    clock.move(timedelta(seconds=90))
    done = await bench.end(who, batch)
    assert (done.status, done.completed, done.failed) == ("completed", 2, 2)
    errors = await bench.told(who, done.error_file)
    assert [one["response"]["status_code"] for one in errors] == [402, 402]
    assert errors[0]["response"]["body"]["error"]["code"] == "insufficient_funds"


async def test_while_money_or_the_queue_cannot_be_reached_lines_wait(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a"))
    await bench.drive()
    bench.market.trading.closed = True
    await bench.drive(2)
    assert len(await bench.market.sql("SELECT line FROM ai.batch_lines WHERE state = 'waiting'")) == 1
    bench.market.trading.closed = False
    assert (await bench.end(who, batch)).completed == 1


async def test_a_batch_that_is_driven_by_two_at_once_does_each_line_once(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, b"".join(line(str(number)) for number in range(30)))
    for _ in range(4):
        await asyncio.gather(*(bench.ai.drive_batches() for _ in range(3)))
        await bench.work()
    done = await bench.end(who, batch)
    assert (done.completed, done.failed) == (30, 0)
    assert len(await bench.market.sql("SELECT id FROM ai.jobs")) == 30
    assert len(await bench.market.sql("SELECT id FROM ai.files")) == 2


@only_in_full
async def test_a_file_with_too_many_lines_fails_as_a_whole(bench: Bench) -> None:
    who = bench.market.person()
    done = await bench.end(who, await bench.batch(who, b"x\n" * (LINES_MAX + 1)))
    assert (done.status, done.errors[0].code) == ("failed", "too_many_lines")
    assert await bench.market.sql("SELECT * FROM ai.batch_lines") == []


async def test_files_and_their_content_go_when_they_are_too_old_but_not_under_a_batch(bench: Bench) -> None:
    who = bench.market.person()
    batch = await bench.batch(who, line("a"))
    clock.move(timedelta(hours=12))
    await bench.market.sql(
        "UPDATE ai.artifacts SET expires_at = greatest(expires_at - interval '6 days 12 hours', $1)",
        clock.now() + timedelta(hours=13),
    )
    await bench.ai.tidy()
    assert (await bench.end(who, batch)).completed == 1
    clock.move(timedelta(days=9))
    await bench.ai.tidy()
    assert await bench.market.sql("SELECT id FROM ai.files") == []
    assert await bench.market.sql("SELECT id FROM ai.artifacts") == []


def test_lines_are_found_however_the_content_is_cut() -> None:
    content = b"one\r\n\n  \ntwo\n" + b"x" * (LINE_BYTES_MAX + 5) + b"\nlast"
    whole = list(pieces_of(iter([content])))
    assert [(piece.number, piece.size, piece.content and piece.content.strip()) for piece in whole] == [
        (1, 4, b"one"),
        (4, 3, b"two"),
        (5, LINE_BYTES_MAX + 5, None),
        (6, 4, b"last"),
    ]

    def cut(size: int) -> Iterator[bytes]:
        yield from (content[at : at + size] for at in range(0, len(content), size))

    for size in (1000, 7, 3):
        assert list(pieces_of(cut(size))) == whole
    for piece in whole:
        assert piece.content is None or content[piece.position : piece.position + piece.size] == piece.content


async def test_nobody_cancels_or_sees_the_batch_of_another(bench: Bench) -> None:
    who, other = bench.market.person(), bench.market.person()
    batch = await bench.batch(who, line("a"))
    for ask in (bench.ai.batches.get, bench.ai.batches.cancel):
        with pytest.raises(Exception, match="no such batch"):
            await ask(other, batch)
    assert await bench.ai.batches.page(other, after=None, limit=5) == []
    assert [one.id for one in await bench.ai.batches.page(who, after=None, limit=5)] == [batch]
    assert await bench.ai.batches.page(who, after=ids.new_id("batch")[:6] + "0" * 26, limit=5) == []
    await bench.ai.batches.cancel(who, batch)
    done = await bench.end(who, batch)
    assert (done.status, done.requests, done.output_file) == ("cancelled", 0, None)
