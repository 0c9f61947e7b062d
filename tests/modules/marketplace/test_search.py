"""The search: its grammar against an oracle of its own, its refusals, and its pages."""

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from aitbc.kernel.primitives import ids
from aitbc.modules.marketplace.models.search import values
from aitbc.modules.marketplace.models.search.conditions import condition
from aitbc.modules.marketplace.models.search.grammar import parse
from aitbc.modules.marketplace.models.search.values import GpuSpec, SearchInvalid
from aitbc.modules.marketplace.models.tables import OfferRow
from tests.app import Caller
from tests.modules.gpu.make import Fleet, gpu_device
from tests.modules.marketplace.make import MARKET, PATIENCE, made, market_of

pytestmark = pytest.mark.anyio
SEARCH = f"{MARKET}/search"
POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


async def found(who: Caller, expression: str, **query: Any) -> list[dict[str, Any]]:
    """The first page of a search."""
    answer = await who.get(SEARCH, filter=expression, **query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.size, "80GB", 76_293),
        (values.size, "24gib", 24_576),
        (values.size, "0", 0),
        (values.price, "0.8", Decimal(80_000_000)),
        (values.price, "0.02/1k", Decimal(2_000)),
        (values.price, "1/h", Decimal(10**8)),
        (values.seconds, "1.5h", 5_400),
        (values.gpu_spec, "H100", GpuSpec(("H100",))),
        (values.gpu_spec, "H100:2..", GpuSpec(("H100",), count=(2, None))),
        (values.gpu_spec, "24GB..", GpuSpec(vram_mib=(22_888, None))),
        (values.gpu_spec, "A100,H100:80GB..:1..4", GpuSpec(("A100", "H100"), (76_293, None), (1, 4))),
    ],
)
def test_values_are_read_with_their_units(read: Any, text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("vrem >= 80GB", "Did you mean vram"),
        ("xyz = red", "There are price"),
        ("vram >= 80", "say its unit"),
        ("price < cheap", "no price"),
        ("region > eu", "no order"),
        ("(price < 1", "not closed"),
        ("price <", "ends where a value"),
        ("price 1", "an operator"),
        ("price < 1 )", "not expected"),
        ("region in []", "a value at least"),
        ("region not eu", "`in` is expected"),
        ("gpu = H100:2:3", "no specification"),
        ("account = me", "begins with acct_"),
        ("!", "cannot be read"),
        ("not " * 50 + "price < 1", "nested"),
        ("(" * 50 + "price < 1", "nested"),
        (" and ".join(["price < 1"] * 51), "comparisons"),
        ("x" * 1001, "characters"),
        ("price < 1/0", "no price"),
        ("available > 1.5", "whole number"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str, part: str) -> None:
    with pytest.raises(SearchInvalid) as refused:
        condition(parse(text))
    assert part in refused.value.message


@settings(suppress_health_check=list(HealthCheck))
@given(st.text(alphabet="()[],=<>!'\" andorti\tvram80GBprice.é", max_size=60))
def test_any_text_is_a_search_or_refused(text: str) -> None:
    try:
        tree = parse(text)
        select(OfferRow.id).where(condition(tree)).compile(dialect=POSTGRESQL)
    except SearchInvalid:
        pass


STOCK = [
    ("H100", 81_559, "eu", "0.9"),
    ("RTX 4090", 24_564, "us", "0.3"),
    ("H100", 81_559, "us", "0.7"),
    ("", 0, "eu", "0.01"),
]
"""What is on sale: model, MiB, region, price."""


async def stocked(fleet: Fleet) -> tuple[Caller, dict[str, int]]:
    """Somebody who has put the stock on sale, and the place in it by offer."""
    owner = await fleet.owner()
    numbers = {}
    for number, (model, mib, region, price) in enumerate(STOCK):
        gpus: dict[str, Any] = {"device": "gpu", "gpu_models": [model], "vram_mib": mib} if model else {}
        devices = [gpu_device(f"NVIDIA {model}", mib)] if model else []
        rig = await fleet.rig(owner, region=region, devices=devices, **gpus)
        sold = {"sells": "device"} if model else {"sells": "work", "kind": "embed"}
        numbers[(await made(owner, miner=rig.id, price=price, **sold))["id"]] = number
    return owner, numbers


ATOMS: list[tuple[str, Any]] = [
    ("vram >= 80GB", lambda one: one[1] >= 76_293),
    ("vram < 24GiB", lambda one: one[1] < 24_576),
    ("gpu = h100", lambda one: "H100" in one[0]),
    ("gpu != H100:80GB..", lambda one: "H100" not in one[0]),
    ("region in [EU, asia]", lambda one: one[2] == "eu"),
    ("region notin (eu)", lambda one: one[2] != "eu"),
    ("price <= 0.7", lambda one: Decimal(one[3]) <= Decimal("0.7")),
    ("price != 0.3", lambda one: one[3] != "0.3"),
    ("sells = device", lambda one: bool(one[0])),
    ("kind = 'embed'", lambda one: not one[0]),
    ("kind != embed", lambda one: bool(one[0])),
    ("kind not in [embed]", lambda one: bool(one[0])),
    ("verified = true", lambda one: False),
    ("available >= 1", lambda one: True),
]
"""Comparisons, each with what it means by an oracle that knows no SQL."""


def test_trees() -> None:
    """Side by side is `and`; `and` binds before `or`."""
    assert parse("a = 1 b = 2") == parse("a = 1 and b = 2") == parse("(a == 1) (b=2)")
    assert parse("a = 1 or b = 2 c = 3") == parse("a=1 or (b=2 and c=3)")
    assert parse("not a = 1 and b = 2") == parse("(not a=1) and b=2")


async def test_every_combination_finds_what_an_oracle_finds(fleet: Fleet) -> None:
    owner, numbers = await stocked(fleet)
    mine = f"account = {owner.principal.account}"
    combinations: list[tuple[str, Any]] = list(ATOMS)
    combinations += [(f"not {text}", lambda one, holds=holds: not holds(one)) for text, holds in ATOMS]
    for (left, first), (right, second) in zip(ATOMS, ATOMS[3:] + ATOMS[:3], strict=True):
        combinations.append((f"({left} or {right})", lambda one, a=first, b=second: a(one) or b(one)))
        combinations.append((f"not ({left} {right})", lambda one, a=first, b=second: not (a(one) and b(one))))
    for text, holds in combinations:
        got = {numbers[one["id"]] for one in await found(owner, f"{mine} and {text}")}
        assert got == {number for number, one in enumerate(STOCK) if holds(one)}, text


async def test_pages_follow_any_sort_to_the_end(fleet: Fleet) -> None:
    owner, numbers = await stocked(fleet)
    mine = f"account = {owner.principal.account}"
    orders = {"price": [3, 1, 2, 0], "-price": [0, 2, 1, 3], "created": [0, 1, 2, 3], "vram": [3, 1, 0, 2]}
    for sort, order in {**orders, "-vram": orders["vram"][::-1], "-created": [3, 2, 1, 0]}.items():
        got, cursor = [], None
        while True:
            query = {"filter": mine, "sort": sort, "limit": 1} | ({"cursor": cursor} if cursor else {})
            page = (await owner.get(SEARCH, **query)).json()
            got += [numbers[one["id"]] for one in page["data"]]
            if not page["has_more"]:
                break
            cursor = page["next_cursor"]
        assert got == order, sort
    foreign = await owner.get(SEARCH, filter="", sort=sort, cursor=cursor)
    assert (foreign.status_code, foreign.json()["code"]) == (422, "invalid_cursor")


async def test_only_what_can_be_taken_now_is_found(fleet: Fleet) -> None:
    owner = await fleet.owner()
    gone, silent = await fleet.rig(owner), await fleet.rig(owner, heartbeat=False)
    work = {"sells": "work", "kind": "embed", "price": "0.5"}
    withdrawn = await made(owner, miner=gone.id, **work)
    await owner.post(f"{MARKET}/offers/{withdrawn['id']}/withdraw")
    asleep = await made(owner, miner=silent.id, **work)
    mine = f"account = {owner.principal.account}"
    assert await found(owner, mine) == []
    assert [one["id"] for one in await found(owner, f"{mine} status = enrolled")] == [asleep["id"]]
    assert await found(owner, f"miner = {ids.new_id('mnr')}") == []
    refused = await owner.get(SEARCH, filter="vrem > 1GB")
    assert (refused.status_code, refused.json()["code"]) == (422, "search_invalid")
    assert "Did you mean vram" in refused.json()["detail"]


async def test_work_and_devices_are_found_in_one_search_by_what_an_hour_of_them_costs(fleet: Fleet) -> None:
    owner, buyer, model = await fleet.owner(), await fleet.owner(funds="1"), f"fast-{uuid.uuid4().hex}"
    rig = await fleet.rig(owner, devices=[gpu_device()], device="gpu", models={"embed": [model]})
    async with asyncio.timeout(PATIENCE):
        while (job := await buyer.post("/api/v1/ai/jobs", _asking(model))).status_code != 201:
            assert job.json()["code"] == "unknown_model"  # its miner is heard of by an event
            await asyncio.sleep(0.1)
    for number in range(3):
        if number:
            await fleet.submit(buyer, input={"texts": ["text"], "model": model})
        output = {"model": model, "dimensions": 3, "vectors": [[0.5, -0.25, 0.125]], "weights": "sha256:00"}
        assert (await rig.deliver(await rig.take(), output)).status_code == 200
    work = await made(owner, miner=rig.id, sells="work", kind="embed", model=model, price="0.00001")
    device = await made(owner, miner=rig.id, sells="device", price="3.6")
    by_hour = f"miner = {rig.id} and hour > 0"
    assert [one["id"] for one in await found(buyer, by_hour, sort="hour")] == [device["id"]]
    await market_of(fleet).measure_offers()
    ways = {way: await found(buyer, by_hour, sort=way) for way in ("hour", "-hour")}
    seen = {one["id"]: one for one in ways["hour"]}
    assert ways["hour"] == ways["-hour"][::-1] and {*seen} == {work["id"], device["id"]}
    told = {name: (seen[one["id"]]["unit"], seen[one["id"]]["price"]) for name, one in (("w", work), ("d", device))}
    assert told == {"w": ("byte", "0.00001"), "d": ("hour", "3.6")}
    assert seen[device["id"]]["price_hour"] == "3.6"
    units_hour = Decimal(seen[work["id"]]["price_hour"]) / Decimal("0.00001")
    assert units_hour > 0 and units_hour == int(units_hour)
    hours = [Decimal(one["price_hour"]) for one in ways["hour"]]
    assert hours == sorted(hours)


def _asking(model: str) -> dict[str, Any]:
    return {"kind": "embed", "input": {"texts": ["text"], "model": model}, "max_price": "0.05"}
