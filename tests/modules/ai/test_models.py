"""Models by name: announced, matched, refused where nobody serves them, and compared with what made the answer."""

import asyncio
import base64
import struct
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.api import ModelFacts
from aitbc.modules.ai.models.kinds.kind import InvalidInput
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.service.served_models import (
    REMEMBERED,
    ContextTooLong,
    ModalityNotServed,
    UnknownModel,
    near_names,
)
from tests.modules.ai.make import Market, Worker, a_job, ai_on

pytestmark = pytest.mark.anyio
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 100, 50, 8, 6, 0, 0, 0, 0)
).decode()
SERVED = ("llama3.2:3b", "llama3.2:latest", "qwen2.5:7b")


async def announce(market: Market, worker: Worker, **changes: Any) -> None:
    """What gpu publishes of this miner reaches ai."""
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.on_miners_changed(uow, [worker.changed(**changes)])


def chatter(market: Market, *models: str) -> Worker:
    """A miner that chats with these models."""
    return Worker(market, kinds=("chat",), models={"chat": models} if models else {})


def said(model: str | None) -> dict[str, Any]:
    """An answer, and what made it."""
    return {"message": {"role": "assistant", "content": "Hello."}, "model": model, "finish_reason": "stop"}


@pytest.mark.parametrize("where", ["input", "requirements"])
async def test_a_model_nobody_serves_is_refused_with_near_names_before_money_is_held(owner: Target, where: str) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        await announce(market, chatter(market, *SERVED))
        named: dict[str, Any] = {"model": "Llama3.2"}
        value, wanted = (ASK | named, {}) if where == "input" else (ASK, named)
        with pytest.raises(UnknownModel) as refused:
            await market.submit(alice, kind="chat", value=value, **wanted)
        assert refused.value.details["near"] == ["llama3.2:3b", "llama3.2:latest"]
        assert "Did you mean" in refused.value.message
        assert market.trading.holds == {}
        with pytest.raises(UnknownModel):
            await market.ai.quotes.quote(alice, a_job(kind="chat", value=value, **wanted))
        with pytest.raises(UnknownModel):
            await market.submit(alice, kind="chat", value=ASK, models=["qwen2.5:7b", "nope"])
        with pytest.raises(UnknownModel) as elsewhere:
            await market.submit(alice, value={"texts": ["one"], "model": "qwen2.5:7b"})
        assert "embed" in elsewhere.value.message


async def test_a_model_can_be_asked_for_from_the_moment_its_miner_is_known(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, late = market.person(), chatter(market, "m1")
        with pytest.raises(UnknownModel):
            await market.submit(alice, kind="chat", value=ASK | {"model": "m1"})
        await announce(market, late)
        job = await market.submit(alice, kind="chat", value=ASK | {"model": "m1"})
        assert (await late.take()).job == job


@pytest.mark.parametrize("where", ["input", "requirements"])
async def test_only_a_miner_of_the_model_gets_the_job_and_reads_its_name_in_the_input(
    owner: Target, where: str
) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        wrong, silent, right = chatter(market, "m1"), chatter(market), chatter(market, "m1", "m2")
        for worker in (wrong, silent, right):
            await announce(market, worker)
        if where == "input":
            await market.submit(alice, kind="chat", value=ASK | {"model": "m2"})
        else:
            await market.submit(alice, kind="chat", value=ASK, model="m2")
        assert await wrong.claim() == await silent.claim() == []
        lease = await right.take()
        assert lease.input["model"] == "m2"
        assert (await right.deliver(lease, said("m2"))).state == "succeeded"


async def test_a_claim_that_waits_gets_no_job_of_a_model_that_its_miner_gave_up(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, one, other = market.person(), chatter(market, "m"), chatter(market, "m")
        for worker in (one, other):
            await announce(market, worker)
        waiting = asyncio.create_task(one.claim(wait_seconds=20.0))
        for _ in range(3000):
            if len(market.ai.wakeups.miners):
                break
            await asyncio.sleep(0.01)
        one.capabilities = chatter(market, "n").capabilities
        await announce(market, one, version=2)
        job = await market.submit(alice, kind="chat", value=ASK | {"model": "m"})
        assert await waiting == []
        assert (await other.take()).job == job


async def test_an_answer_of_another_model_is_neither_taken_nor_paid(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, cheat, honest = market.person(), chatter(market, "big"), chatter(market, "big")
        await announce(market, cheat)
        job = await market.submit(alice, kind="chat", value=ASK | {"model": "big"})
        outcome = await cheat.deliver(await cheat.take(), said("tiny"))
        assert outcome.state == "queued"
        (attempt,) = (await market.ai.jobs.get(alice, job)).history
        assert (attempt.fault, attempt.reason) == ("miner", "invalid_output")
        assert "tiny" in attempt.message and "big" in attempt.message
        assert (await honest.deliver(await honest.take(), said("big:latest"))).state == "succeeded"
        await market.require_sound()


async def test_a_miner_that_lacks_a_model_costs_no_attempt_and_others_are_asked_at_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, stale, right = market.person(), chatter(market, "m"), chatter(market, "m")
        await announce(market, stale)
        job = await market.submit(alice, kind="chat", value=ASK | {"model": "m"}, retry={"attempts_max": 1})
        outcome = await stale.fail(await stale.take(), "platform", "model_unavailable", "not found")
        assert outcome.state == "queued"
        assert (await market.ai.jobs.get(alice, job)).attempts == 0
        assert await stale.claim() == []
        assert (await right.deliver(await right.take(), said("m"))).state == "succeeded"
        lost, _ = (await market.ai.jobs.get(alice, job)).history
        assert (lost.fault, lost.reason) == ("platform", "model_unavailable")  # which counts for no reputation


async def test_models_are_listed_while_their_miners_are_there_and_an_hour_longer(owner: Target) -> None:
    async with ai_on(owner) as market:
        one, two, gone = chatter(market, "a", "b"), chatter(market, "b"), chatter(market, "old")
        for worker in (one, two):
            await announce(market, worker)
        await announce(market, gone, status="offline")

        async def listed(**wishes: Any) -> list[tuple[str, int]]:
            market.ai.served_models._read_at = float("-inf")  # as two seconds later
            wishes = {"kind": None, "after": None, "limit": 10} | wishes
            return [(model.name, model.miners) for model in await market.ai.served_models.page(**wishes)]

        assert await listed() == [("a", 1), ("b", 2), ("old", 0)]
        assert await listed(after=("chat", "a"), limit=1) == [("b", 2)]
        assert await listed(kind="embed") == []
        clock.move(REMEMBERED + timedelta(seconds=1))
        assert await listed() == [("a", 1), ("b", 2)]
        await announce(market, one, version=2, status="removed")
        assert await listed() == [("b", 1)]


@pytest.mark.parametrize(
    "options",
    [
        {"stop": []},
        {"stop": ["x" * 200] * 4},
        {"seed": -1},
        {"seed": 2**40},
        {"seed": 2**53 - 1},
        {"max_tokens": 131_072},
    ],
)
def test_what_a_chat_may_ask_for_is_one_schema(options: dict[str, Any]) -> None:
    KINDS["chat"].read(ASK | options)


@pytest.mark.parametrize("options", [{"stop": [""]}, {"stop": ["x" * 201]}, {"stop": ["x"] * 5}, {"seed": 2**53}])
def test_what_no_chat_can_do_is_refused_at_the_door(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        KINDS["chat"].read(ASK | options)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("embed", {"texts": ["a\0b"]}),
        ("command", {"program": "wc", "arguments": ["\0"]}),
        ("embed", {"texts": ["a"], "dimensions": 257}),
    ],
)
def test_what_no_miner_can_take_is_refused_at_the_door(kind: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        KINDS[kind].measure(KINDS[kind].read(value), {}, run_seconds=1)


def test_names_that_contain_the_wrong_one_are_nearer_than_those_like_it() -> None:
    assert near_names("LLAMA", ["lama", "llama3", "codellama", "qwen"]) == ["lama", "llama3", "codellama"]
    assert near_names("qwen3:8b-instruct", ["qwen3:8b", "mistral"]) == ["qwen3:8b"]
    assert near_names("zzz", ["qwen"]) == []


async def test_what_models_take_is_told_matched_and_refused_before_money_is_held(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        small, large = ModelFacts(context=2048, modalities=("text",)), ModelFacts(context=8192, quantization="Q8_0")
        seeing = ModelFacts(context=4096, modalities=("image", "text"), quantization="Q4_K_M")
        pin = "m@sha256:0123456789ab"
        workers = [
            Worker(market, kinds=("chat",), models={"chat": models}, model_facts=facts)
            for models, facts in (
                (("m", pin), {"m": small, pin: small}),
                (("m",), {"m": large}),
                (("eyes",), {"eyes": seeing}),
            )
        ]
        for worker in workers:
            await announce(market, worker)
        listed = {one.name: one for one in await market.ai.served_models.page(kind="chat", after=None, limit=10)}
        assert (listed["m"].context, listed["m"].modalities, listed["m"].quantizations) == (8192, None, ("Q8_0",))
        assert (listed["eyes"].modalities, listed["eyes"].digest) == (("image", "text"), None)
        assert (listed[pin].context, listed[pin].digest) == (2048, "sha256:0123456789ab")

        def asking(model: str, words: int = 1, *parts: Any) -> dict[str, Any]:
            content = [{"type": "text", "text": "word " * words}, *parts]
            return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 16}

        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        for wrong, error in (
            (asking(pin, 14_000), ContextTooLong),
            (asking(pin, 1, picture), ModalityNotServed),
            (asking("m", 60_000), ContextTooLong),
        ):
            with pytest.raises(error) as refused:
                await market.submit(alice, kind="chat", value=wrong)
            assert refused.value.fields[0].pointer == "/input/messages"
        assert market.trading.holds == {}
        long = await market.submit(alice, kind="chat", value=asking("m", 14_000))
        assert await workers[0].claim() == [], "its model takes less"
        assert (await workers[1].take()).job == long
        short = await market.submit(alice, kind="chat", value=asking("m", 1, picture))
        assert await workers[0].claim() == [], "its model takes no pictures"
        assert (await workers[1].take()).job == short, "nobody says what it takes"
        seen = await market.submit(alice, kind="chat", value=asking("eyes", 1, picture))
        lease = await workers[2].take()
        assert lease.job == seen
        exact = await market.submit(alice, kind="chat", value=asking(pin))
        assert await workers[1].claim() == []
        lease = await workers[0].take()
        assert (lease.job, lease.input["model"]) == (exact, pin)
        assert (await workers[0].deliver(lease, said(pin))).state == "succeeded"
        assert (await market.ai.jobs.get(alice, exact)).state == "succeeded"


async def test_a_model_takes_as_many_jobs_as_it_has_slots_and_the_rest_of_the_miner_works_on(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), chatter(market, "big", "small")
        await announce(market, worker)
        for model in ("big", "big", "big", "small"):
            await market.submit(alice, kind="chat", value=ASK | {"model": model})
        leases = await worker.claim(slots=4, models_free={"big": 2})
        assert sorted(lease.input["model"] for lease in leases) == ["big", "big", "small"]
        assert await worker.claim(slots=1, models_free={"big": 0}) == []
        (last,) = await worker.claim(slots=1, models_free={"big": 1})
        assert last.input["model"] == "big"
