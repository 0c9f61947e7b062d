"""Canaries: idle miners get paid jobs as from any payer; a kind that fails is offered no more until one passes."""

from typing import Any

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.canaries import judge
from tests.modules.ai.make import AITBC, Market, Worker, a_job, ai_on, embedding


def vectors(*, honest: bool = True) -> dict[str, Any]:
    """An answer to the canary of embed: two equal texts around another one."""
    told = embedding(3)
    return told | {
        "vectors": [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0] if honest else [1.0, 0.0, 0.0, 0.0],
            [1.0, 0.0, 0.0, 0.0],
        ]
    }


async def announce(market: Market, *workers: Worker, version: int = 1) -> None:
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.on_miners_changed(uow, [worker.changed(version) for worker in workers])


def program(stdout: str, **more: Any) -> dict[str, Any]:
    """An answer of a program or an image."""
    return {"exit_code": 0, "stdout": stdout, "stderr": "", "truncated": False} | more


async def test_programs_images_and_pictures_have_canaries_too(owner: Target) -> None:
    async with ai_on(owner) as plain:
        platform = plain.person(AITBC)
    known: dict[str, Any] = {
        "canary_commands": {"wc -w": "6", "absent": "1"},
        "canary_containers": {"busybox wc -w": "6"},
    }
    async with ai_on(owner, trading=plain.trading, canary_account=platform.account, canary_hours=6, **known) as market:
        kinds = ("command", "container", "ocr", "rerank")
        worker = Worker(market, kinds=kinds, programs=("wc",), models={"container": ("busybox",)})
        await announce(market, worker, Worker(market, kinds=("command",), programs=("other",)))
        await market.ai.send_canaries()
        (picture,) = await market.sql("SELECT expects FROM ai.canaries WHERE kind = 'ocr'")
        line = {"text": f"No. {picture['expects']}", "box": [[0, 0], [9, 0], [9, 9], [0, 9]], "confidence": 0.9}
        size = {"width": 8 * 24 + 40, "height": 80}
        answers = {
            "command": program("6\n"),
            "container": program("7\n", files={}),
            "ocr": {"text": line["text"], "lines": [line], **size},
            "rerank": {"model": "words", "scores": [0.9, 0.1]},
        }
        leases = await worker.claim(slots=5)
        assert {lease.kind: lease.input.get("stdin") for lease in leases}.keys() == answers.keys()
        for lease in leases:
            assert (await worker.deliver(lease, answers[lease.kind])).earned is not None
        await market.ai.send_canaries()
        seen = (await market.ai.prospects_of(worker.id, now())).canaries
        assert [(one.kind, one.state, one.step) for one in seen] == [
            ("command", "passed", None),
            ("container", "failed", "answer"),
            ("ocr", "passed", None),
            ("rerank", "failed", "answer"),
        ]
        assert judge("rerank", "succeeded", "none", '{"model": "words", "scores": [0.1, 0.9]}', ("", True)).step is None
        assert judge(
            "ocr",
            "succeeded",
            "none",
            '{"text": "12345679", "lines": [], "width": 1, "height": 1}',
            ("", True),
            "12345678",
        ).step


async def found(market: Market, worker: Worker) -> tuple[str, str | None]:
    (canary,) = (await market.ai.prospects_of(worker.id, now())).canaries
    return canary.state, canary.step


async def test_a_kind_that_fails_its_canary_is_offered_again_once_one_passes(owner: Target) -> None:
    async with ai_on(owner) as plain:
        platform = plain.person(AITBC)
    async with ai_on(owner, trading=plain.trading, canary_account=platform.account, canary_hours=6) as market:
        worker, other = Worker(market, kinds=("embed",)), Worker(market, kinds=("command",))
        await announce(market, worker, other)
        person = market.person()
        await market.ai.send_canaries()
        await market.ai.send_canaries()  # once is enough, while it waits
        assert await found(market, worker) == ("waiting", None)
        assert (await market.ai.prospects_of(other.id, now())).canaries == ()
        stranger = Worker(market, kinds=("embed",))
        assert await stranger.claim(slots=5) == []  # it is for one miner alone
        lease = await worker.take()
        outcome = await worker.deliver(lease, vectors(honest=False))
        assert outcome.earned is not None  # paid as any job is
        assert plain.trading.paid[next(iter(plain.trading.paid))].payer == platform.account
        await market.ai.send_canaries()
        assert await found(market, worker) == ("failed", "answer")

        job = await market.submit(person)
        assert await worker.claim() == []
        quote = await market.ai.quotes.quote(person, a_job())
        assert quote.miners_eligible == 0
        (again,) = await stranger.claim()
        assert again.job == job
        await stranger.deliver(again)

        await market.later(601)
        await announce(market, worker, version=2)
        await market.ai.send_canaries()
        await worker.deliver(await worker.take(), vectors())
        await market.ai.send_canaries()
        assert await found(market, worker) == ("passed", None)
        assert (await market.ai.quotes.quote(person, a_job())).miners_eligible == 1
        job = await market.submit(person)
        assert (await worker.take()).job == job


async def test_what_does_not_take_its_canary_fails_by_that_step_and_the_cost_is_bounded(owner: Target) -> None:
    async with ai_on(owner) as plain:
        platform, poor = plain.person(AITBC), plain.person(0)
    few: dict[str, Any] = {"canary_account": platform.account, "canary_hours": 6, "canaries_per_day": 1}
    async with ai_on(owner, trading=plain.trading, **few) as market:
        workers = [Worker(market, kinds=("embed",)) for _ in range(2)]
        await announce(market, *workers)
        for _ in range(3):
            await market.ai.send_canaries()
        sent = [worker for worker in workers if (await market.ai.prospects_of(worker.id, now())).canaries]
        assert len(sent) == 1  # no more in a day
        await market.later(61)
        await market.ai.send_canaries()
        assert await found(market, sent[0]) == ("failed", "taken")
        await market.require_sound()
    broke: dict[str, Any] = {"canary_account": poor.account, "canary_hours": 6}
    async with ai_on(owner, trading=plain.trading, **broke) as market:
        worker = Worker(market, kinds=("embed",))
        await announce(market, worker)
        await market.ai.send_canaries()
        assert await found(market, worker) == ("unsent", "submitted")  # nobody's fault, and offered as before
        job = await market.submit(market.person())
        assert (await worker.take()).job == job
        worker = Worker(market, kinds=("embed",))
        await announce(market, worker)
    async with ai_on(owner, trading=plain.trading) as market:
        await market.ai.send_canaries()
        assert (await market.ai.prospects_of(worker.id, now())).canaries == ()  # nobody pays: none is sent


def test_each_end_of_a_canary_names_the_step_that_failed() -> None:
    last = ("not_started", False)
    assert judge("embed", "failed", "miner", None, last).step == "started"
    assert judge("embed", "failed", "miner", None, ("broken", True)).step == "finished"
    assert judge("embed", "expired", "none", None, last).step == "taken"
    assert judge("embed", "failed", "platform", None, last).is_void
    assert judge("embed", "canceled", "none", None, last).is_void
    chat = '{"message": {"role": "assistant", "content": "%s"}}'
    assert judge("chat", "succeeded", "none", chat % "Hello.", last).step is None
    assert judge("chat", "succeeded", "none", chat % "", last).step == "answer"
