"""Answers of chats are checked by how likely a trusted miner finds their tokens: nobody is accused for another text."""

import random
from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.modules.ai.api import CheckedToken
from aitbc.modules.ai.models.checks.likelihoods import (
    POSITIONS_MAX,
    RECENT,
    Finding,
    Measured,
    chosen,
    judge,
    measure,
    tokens_in,
)
from aitbc.modules.ai.models.checks.tiers import VerificationNotOffered
from aitbc.modules.ai.models.kinds.chat import Evaluated
from aitbc.modules.ai.models.kinds.kind import OutputRefused
from tests.modules.ai.make import ADMIN, Market, Worker, ai_on
from tests.modules.ai.verification.test_quorum import detail, submit, trust
from tests.scale import scaled

pytestmark = pytest.mark.anyio
MODEL = "tiny"
ASK = {"messages": [{"role": "user", "content": "Count."}], "model": MODEL, "max_tokens": 64, "logprobs": True}
WORDS = [f"{number} " for number in range(30)]
PASSES = 0.1
FORMS = {
    "an honest engine": (0.03, 0.05),
    "the least exact honest one": (0.059, 0.1),
    "Q5_0 for Q4_K_M": (0.166, 0.2),
    "Q4_0 for Q4_K_M": (0.558, 0.4),
    "words at random": (9.0, 3.0),
}
"""The mean difference of engines as it was measured, and how far one prompt of 20 to 40 positions lies from it."""
DRAWS = scaled(3_000, 30_000)


def findings(form: str, *, share: float = 1.0) -> list[Finding]:
    """What the checks of a miner say in turn; a `share` of its answers is of this form and the others are honest."""
    chance = random.Random(form)
    recent: list[Measured] = []
    found: list[Finding] = []
    for _ in range(DRAWS):
        mean, spread = FORMS[form if chance.random() < share else "an honest engine"]
        own = Measured(chance.randint(20, POSITIONS_MAX), max(0.0, mean + chance.uniform(-spread, spread)))
        found.append(judge(PASSES, own, recent))
        recent = [own, *recent][:RECENT]
    return found


def test_the_rates_of_accusing_and_catching_are_those_that_are_stated() -> None:
    for form in ("an honest engine", "the least exact honest one"):
        assert Finding.WRONG not in findings(form), form
    assert findings("an honest engine").count(Finding.VALID) == DRAWS
    for form, least in (("Q5_0 for Q4_K_M", 0.6), ("Q4_0 for Q4_K_M", 0.99), ("words at random", 1.0)):
        found = findings(form)
        assert found.count(Finding.WRONG) >= least * DRAWS, form
        assert Finding.WRONG in found[:12], form
    mixed = findings("words at random", share=0.2)
    assert mixed.count(Finding.WRONG) == DRAWS - mixed.count(Finding.VALID)  # each one of them
    assert findings("words at random")[0] is Finding.WRONG  # by one answer alone


def test_too_little_accuses_nobody() -> None:
    assert judge(PASSES, None, []) is Finding.UNCLEAR
    assert judge(PASSES, Measured(1, 0.4), []) is Finding.VALID  # a token alone proves nothing below 0.5
    assert judge(PASSES, Measured(40, 0.5), []) is Finding.UNCLEAR
    assert judge(PASSES, Measured(40, 0.53), []) is Finding.WRONG
    assert judge(PASSES, Measured(40, 0.3), [Measured(40, 0.1)] * 3) is Finding.WRONG
    assert judge(PASSES, Measured(40, 0.3), [Measured(40, 0.02)] * 11) is Finding.UNCLEAR
    assert judge(PASSES, Measured(40, 0.09), [Measured(40, 9.0)] * 11) is Finding.VALID


def said(texts: list[str], likelihood: float = -0.5) -> dict[str, Any]:
    """What a server tells of its tokens."""
    return {"content": [{"token": one, "bytes": list(one.encode()), "logprob": likelihood} for one in texts]}


def test_tokens_are_those_of_the_text_by_their_bytes() -> None:
    halves = {"content": [{"token": "�", "bytes": [one], "logprob": -1} for one in "é".encode()]}
    assert [(one.start, one.end) for one in tokens_in("é", halves)] == [(0, 1), (1, 2)]
    told = tokens_in("ab cd", said([" ", "ab", " cd", "<end>"]))
    assert [(one.start, one.end) for one in told] == [(0, 2), (2, 5)]
    many = tokens_in("x" * 99, said(list("x" * 99)))
    drawn = chosen(many, lambda among, wanted: random.Random(1).sample(range(among), wanted))
    assert len(drawn) == POSITIONS_MAX
    assert [one.start for one in drawn] == sorted({one.start for one in drawn})
    for text, logprobs in (
        ("ab", None),
        ("ab", {"content": []}),
        ("ab", said(["a", "c"])),
        ("", said([" "])),
        ("b", said(["a", "b"])),
        ("x" * 99, said(["x" * 99])),  # one token for all of it
        ("ab", said(["ab"], float("nan"))),
        ("ab", said(["ab"], 0.5)),
        ("ab", said(["ab"], -(10**400))),
        ("ab", {"content": [{"token": "ab", "bytes": [10**30], "logprob": -1}]}),
        ("ab", {"content": [5]}),
        ("ab", {"content": [{"token": "ab", "bytes": [999], "logprob": -1}]}),
    ):
        with pytest.raises(OutputRefused):
            tokens_in(text, logprobs)


def test_a_greedy_answer_is_also_held_against_the_likeliest_token() -> None:
    tokens = [CheckedToken(start=0, end=1, likelihood=-3.0), CheckedToken(start=1, end=2, likelihood=-0.1)]
    found = [Evaluated(0, -3.0, -0.1), Evaluated(1, -0.1, -0.1), Evaluated(7, -9.0, -0.1)]
    assert measure(tokens, found, is_greedy=False) == Measured(2, 0.0)
    assert measure(tokens, found, is_greedy=True) == Measured(2, 1.45)
    assert measure(tokens, [Evaluated(1)], is_greedy=False) == Measured(1, 1.0)
    assert measure(tokens, [], is_greedy=True) is None


def an_answer(words: list[str], **more: Any) -> dict[str, Any]:
    """The output of a chat."""
    message = {"role": "assistant", "content": "".join(words)}
    return {"message": message, "model": MODEL, "logprobs": said(words), **more}


def evaluated(lease: Any, apart: float, words: list[str] = WORDS) -> dict[str, Any]:
    """The check of an answer by an engine that lies so far apart from it."""
    found = [{"start": one.start, "likelihood": one.likelihood - apart, "most": -0.1} for one in lease.check.tokens]
    return an_answer(words, evaluation=found)


def a_chatter(market: Market) -> Worker:
    """A miner with the model."""
    return Worker(market, models={"chat": (MODEL,)})


async def test_a_trusted_miner_evaluates_the_answer_of_a_chat(owner: Target) -> None:
    async with ai_on(owner, chat_tolerances={MODEL: PASSES}) as market:
        who = market.person()
        trusted, one = await trust(market, a_chatter(market)), await trust(market, a_chatter(market))
        await market.ai.trusted_miners.set(ADMIN, one.id, is_trusted=False)
        own = ["9 ", "9 "]
        for apart, verdict, paid in ((0.03, "valid", 2), (0.3, "unclear", 2), (6.0, "valid", 1)):
            job = await submit(market, who, "recheck", kind="chat", value=ASK)
            first = await one.take()
            assert first.check is None
            assert (await one.deliver(first, an_answer(WORDS))).verifying
            assert await a_chatter(market).claim() == []
            lease = await trusted.take()
            assert lease.check is not None
            assert (lease.check.text, len(lease.check.tokens), lease.check.passes) == ("".join(WORDS), 30, PASSES)
            (again,) = await market.ai.leases_of(trusted.id)
            assert again.check == lease.check
            await trusted.deliver(lease, evaluated(lease, apart, own if paid == 1 else WORDS))
            done = await detail(market, who, job)
            assert (done.verification.verdict, done.verification.agreeing) == (verdict, paid)
            assert done.output["message"]["content"] == "".join(own if paid == 1 else WORDS)
            assert done.history[0].reason == ("wrong_result" if paid == 1 else "completed")
        (record,) = await market.ai.trusted_miners.records(one.id)
        assert (record.checked, record.wrong, record.valid_in_row) == (2, 1, 0)
        (row,) = await market.sql("SELECT recent FROM ai.track_records WHERE recent <> ''")
        assert row["recent"] == "30:6.0 30:0.3 30:0.03"
        assert not [hold for hold in market.trading.holds.values() if hold.state == "open"]
        await market.require_sound()


async def test_what_evaluates_nothing_is_no_check_and_what_cannot_be_checked_is_no_answer(owner: Target) -> None:
    async with ai_on(owner, chat_tolerances={MODEL: PASSES}) as market:
        who = market.person()
        trusted = await trust(market, a_chatter(market))
        job = await submit(market, who, "recheck", kind="chat", value=ASK, retry={"attempts_max": 9})
        for output in (
            {key: value for key, value in an_answer(WORDS).items() if key != "logprobs"},
            an_answer(WORDS, evaluation=[]),
        ):
            one = a_chatter(market)
            await one.deliver(await one.take(), output)
        one = a_chatter(market)
        assert (await one.deliver(await one.take(), an_answer(WORDS))).verifying
        lease = await trusted.take()
        await trusted.deliver(lease, an_answer(WORDS))
        assert await market.state(job) == "queued"
        found = await market.ai.jobs.get(who, job)
        assert [(a.state, a.reason) for a in found.history] == [
            ("failed", "invalid_output"),
            ("failed", "invalid_output"),
            ("delivered", "verifying"),
            ("failed", "invalid_output"),
        ]
        for changes, said_of_it in (
            ({"logprobs": None}, "logprobs: true"),
            ({"model": None}, "Name the model"),
            ({"n": 2}, "Only one answer"),
        ):
            with pytest.raises(VerificationNotOffered, match=said_of_it):
                await submit(market, who, "sampled", kind="chat", value={**ASK, **changes})
        await trust(market, Worker(market, models={"chat": ("other",)}))
        market.ai.served_models._read_at = float("-inf")
        with pytest.raises(VerificationNotOffered, match="measured are: tiny"):
            await submit(market, who, "recheck", kind="chat", value={**ASK, "model": "other"})
        assert msgspec.json.decode(found.input or b"{}")["model"] == MODEL
