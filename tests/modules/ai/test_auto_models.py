"""Models that are left to the platform: by price, by rank, and by what is asked."""

from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.service.auto_models import BALANCED, BEST, CHEAP, LONG_BYTES, is_demanding
from aitbc.modules.ai.service.served_models import UnknownModel
from aitbc.modules.marketplace.events import OfferChanged
from tests.modules.ai.make import Market, Worker, ai_on
from tests.modules.ai.test_models import announce, chatter

pytestmark = pytest.mark.anyio
SHORT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL: dict[str, Any] = SHORT | {"tools": [{"type": "function"}]}


async def ask_for(market: Market, miner: Worker, price_units: int) -> None:
    """A miner's owner asks this much for a unit."""
    offer = OfferChanged(
        offer=ids.new_id("offer"),
        version=1,
        account=miner.account,
        miner=miner.id,
        sells="work",
        job_kind="chat",
        model=None,
        price_units=price_units,
        state="open",
        valid_until=now() + timedelta(days=1),
        changed_at=now(),
    )
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.on_offers_changed(uow, [offer])


async def test_the_cheapest_the_best_and_one_of_the_two_by_what_is_asked(owner: Target) -> None:
    async with ai_on(owner, model_ranks=["grand", "big", "small"]) as market:
        for model, price in (("big", 90), ("small", 7), ("odd", 8)):
            miner = chatter(market, model)
            await announce(market, miner)
            await ask_for(market, miner, price)
        choose = market.ai.auto_models.choose
        assert {word: (await choose(word, SHORT)).taken.name for word in (CHEAP, BALANCED, BEST)} == {
            CHEAP: "small",
            BALANCED: "small",
            BEST: "big",
        }
        demanding = await choose(BALANCED, TOOL)
        assert demanding.header == (
            "big; asked=auto:balanced; unit_price=0.0000009; instead_of=small; its_unit_price=0.00000007"
        )


async def test_without_ranks_there_is_a_cheapest_and_no_best(owner: Target) -> None:
    async with ai_on(owner) as market:
        with pytest.raises(UnknownModel, match="No miner serves a chat model"):
            await market.ai.auto_models.choose(CHEAP, SHORT)
        await announce(market, chatter(market, "one"))
        market.ai.served_models._read_at = float("-inf")
        assert (await market.ai.auto_models.choose(CHEAP, SHORT)).header.startswith(
            "one; asked=auto:cheap; unit_price="
        )
        for word in (BALANCED, BEST):
            with pytest.raises(UnknownModel, match="none is ranked"):
                await market.ai.auto_models.choose(word, SHORT)


def test_what_is_demanding() -> None:
    assert not is_demanding(SHORT) and is_demanding(TOOL)
    assert is_demanding({"messages": [{"role": "user", "content": "x" * LONG_BYTES}]})
    assert is_demanding({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})
    assert is_demanding(SHORT | {"response_format": {"type": "json_object"}})
