"""Live parameters: given by governance, seen by every process, and shown with where they come from."""

import asyncio
from pathlib import Path

import pytest
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.identity.tables import Base
from aitbc.kernel.parameters import (
    ModulePaused,
    Parameter,
    ParameterOutOfRange,
    Parameters,
    ParameterUnknown,
    pause_of,
)
from tests.app import running_app

FEE = Parameter(name="shop.fee", text="x", unit="y", least=0, most=100, default=5, setting=("fee",))
LIMIT = Parameter(name="shop.limit", text="x", unit="y", least=0, most=100, default=5)
PRICE = Parameter(name="shop.price.tea", text="x", unit="y", least=1, most=9, default=2, setting=("prices", "tea"))


class ShopSettings(Struct):
    """What an operator says."""

    fee: int = 5
    prices: dict[str, int] = {}


def parameters_on(target: Target, settings: ShopSettings | None = None) -> Parameters:
    own = Target(host=target.host, port=target.port, user="aitbc_kernel", database=target.database)
    database = Database("kernel", own, list(Base.metadata.tables.values()))
    return Parameters(database, (FEE, LIMIT, PRICE, pause_of("shop")), lambda _: settings)


async def test_a_value_comes_from_governance_before_the_operator_before_the_default(target: Target) -> None:
    alone = Parameters(None, (FEE, PRICE), lambda _: ShopSettings(prices={"tea": 3}))
    assert [(one.value, one.origin) for one in alone.shown()] == [(5, "default"), (3, "operator")]
    here, there = parameters_on(target), parameters_on(target)
    assert here.value("shop.fee", 7) == 7
    await here.set([("shop.fee", 9), ("shop.paused", 1)], "prop_a")
    await there.refresh()
    assert (there.value("shop.fee", 7), there.one("shop.fee").origin, there.one("shop.fee").source) == (
        9,
        "governance",
        "prop_a",
    )
    with pytest.raises(ModulePaused):
        there.require_open("shop")
    await there.set([("shop.fee", None), ("shop.paused", None)], "prop_b")
    await here.refresh()
    here.require_open("shop")
    assert (here.value("shop.fee", 7), len(here.changes("shop.fee"))) == (7, 2)


async def test_a_source_sets_its_values_once_all_of_them_or_none(target: Target) -> None:
    here = parameters_on(target)
    there = parameters_on(target)
    await asyncio.gather(*(one.set([("shop.limit", 1)], "prop_once") for one in (here, there, here, there)))
    assert [change.source for change in here.changes("shop.limit")].count("prop_once") == 1
    for wrong, error in (("shop.limit", ParameterOutOfRange), ("shop.nothing", ParameterUnknown)):
        with pytest.raises(error):
            await here.set([("shop.price.tea", 4), (wrong, 101)], "prop_wrong")
    assert not here.changes("shop.price.tea") and not here.were_set_by("prop_wrong")
    own = Target(host=target.host, port=target.port, user="aitbc_kernel", database=target.database)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with Database("kernel", own, list(Base.metadata.tables.values())).unit_of_work() as uow:
            await uow.session.execute(text("UPDATE kernel.parameters SET value = 1"))


async def test_the_fee_and_the_prices_of_kinds_follow_and_new_work_can_be_paused(
    target: Target, tmp_path: Path
) -> None:
    async with running_app(target, tmp_path) as stage:
        alice, parameters = await stage.who("alice", funds="10"), stage.runtime.platform.parameters
        job = {"kind": "embed", "input": {"texts": ["hello"]}, "max_price": "1"}
        before = (await alice.post("/api/v1/ai/quotes", job)).json()
        await parameters.set([("trading.fee_basis_points", 200), ("ai.unit_price.embed", 30)], "prop_rates")
        after = (await alice.post("/api/v1/ai/quotes", job)).json()
        assert (before["unit_price"], after["unit_price"]) == ("0.0000001", "0.0000003")
        fees = (await alice.get("/api/v1/trading/fees")).json()
        assert (fees["basis_points"], fees["rates"][-1]["basis_points"]) == (200, 200)
        await parameters.set([("ai.paused", 1)], "prop_pause")
        refused = await alice.post("/api/v1/ai/jobs", job)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            "module_paused",
            "60",
        )
        await parameters.set([("ai.paused", 0)], "prop_resume")
        assert (await alice.post("/api/v1/ai/jobs", job)).status_code == 201
