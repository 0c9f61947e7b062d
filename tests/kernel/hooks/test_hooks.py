"""Plugins are asked in a stable order, and what they do wrong ends where they are asked."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import (
    JUDGE_RESULT,
    NOTIFY,
    PRICE,
    RANK_OFFERS,
    VALIDATE_SUBMISSION,
    Happened,
    Noted,
    OffersRanked,
    Order,
    Price,
    PriceAsked,
    Refusal,
)
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.hooks.trusted import Trusted, plugin_hook, trusted_plugins
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.modules.plugins.events import PluginVersionDecided
from aitbc.server.webhooks.plugin_notifier import PluginNotifier
from tests.kernel.hooks.plugins import delivered, price_asked


def _trusted(name: str, priority: int, *functions: Callable[..., Any]) -> Trusted:
    return Trusted(name, "1", priority, {function.__aitbc_hook__: function for function in functions})  # type: ignore[attr-defined]


def _adding(units: int) -> Callable[[PriceAsked], Price]:
    @plugin_hook(PRICE)
    def price(asked: PriceAsked) -> Price:
        return Price(unit_price_units=asked.unit_price_units * 2 + units)

    return price


@plugin_hook(JUDGE_RESULT)
def _refuses(_: Any) -> Refusal:
    return Refusal(reason="no")


@plugin_hook(JUDGE_RESULT)
def _breaks(_: Any) -> Refusal:
    raise ZeroDivisionError("oh")


async def test_where_nobody_is_asked_nothing_happens() -> None:
    hooks = Hooks()
    assert not any(hooks.has(hook) for hook in (PRICE, JUDGE_RESULT, VALIDATE_SUBMISSION))
    assert await hooks.first(JUDGE_RESULT, delivered("x")) is None
    asked = price_asked()
    assert await hooks.fold(PRICE, asked) is asked


async def test_prices_are_folded_in_the_order_of_priority_and_name() -> None:
    for loaded in (("b", "a", "z"), ("z", "a", "b")):
        hooks = Hooks()
        for name in loaded:
            hooks.load(_trusted(name, 0 if name == "z" else 50, _adding(ord(name))))
        expected = 1000
        for name in "zab":
            expected = expected * 2 + ord(name)
        assert (await hooks.fold(PRICE, price_asked(list_price_units=10**6))).unit_price_units == expected


async def test_the_first_answer_counts_and_a_crash_is_none() -> None:
    hooks = Hooks()
    hooks.load(_trusted("a", 1, _breaks))
    hooks.load(_trusted("b", 2, _refuses))
    given = await hooks.first(JUDGE_RESULT, delivered("x"))
    assert given is not None and (given.plugin, given.answer.reason) == ("b", "no")
    assert "ZeroDivisionError" in hooks.trouble("a")
    assert {key: (one.calls, one.failures) for key, one in hooks.take_counts().items()} == {
        ("a", "1"): (1, 1),
        ("b", "1"): (1, 0),
    }
    assert hooks.take_counts() == {}


async def test_an_answer_of_the_wrong_kind_or_out_of_bounds_changes_nothing() -> None:
    for answer in (Refusal(reason="x"), Price(unit_price_units=-1), Price(unit_price_units=10**9), 7):

        @plugin_hook(PRICE)
        def price(_: Any, answer: Any = answer) -> Any:
            return answer

        hooks = Hooks()
        hooks.load(_trusted("a", 1, price))
        assert (await hooks.fold(PRICE, price_asked())).unit_price_units == 1000
        assert hooks.trouble("a")


async def test_one_that_takes_too_long_is_given_up() -> None:
    @plugin_hook(JUDGE_RESULT)
    async def judge(_: Any) -> Refusal:
        await asyncio.sleep(3600)
        raise AssertionError

    hooks = Hooks()
    hooks.load(_trusted("slow", 1, judge))
    assert await hooks.first(JUDGE_RESULT, delivered("x")) is None
    assert hooks.trouble("slow") == "no answer within 1 s"


async def test_one_that_fails_again_and_again_rests_and_is_tried_again() -> None:
    asked: list[bool] = []

    @plugin_hook(JUDGE_RESULT)
    def judge(_: Any) -> Refusal | None:
        asked.append(True)
        if len(asked) <= 3:
            raise ValueError
        return None

    resting = Hooks(HookSettings(rest_after=2, rest_seconds=3600))
    resting.load(_trusted("a", 1, judge))
    for _ in range(10):
        await resting.first(JUDGE_RESULT, delivered("x"))
    assert len(asked) == 2, "it rests after two failures"
    asked.clear()
    hooks = Hooks(HookSettings(rest_after=2, rest_seconds=0.2))
    hooks.load(_trusted("a", 1, judge))
    async with asyncio.timeout(20):
        while len(asked) < 5:  # once more a failure and a rest, then it works
            await asyncio.sleep(0.05)
            await hooks.first(JUDGE_RESULT, delivered("x"))
    await hooks.first(JUDGE_RESULT, delivered("x"))
    assert len(asked) == 6


async def test_a_wrapper_is_asked_around_the_others_and_one_that_breaks_changes_nothing() -> None:
    @plugin_hook(JUDGE_RESULT, wraps=True)
    async def lenient(question: Any, inner: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = await inner(question)
        return None if question.output == "fine" else answer

    @plugin_hook(JUDGE_RESULT, wraps=True)
    async def broken(question: Any, inner: Callable[[Any], Awaitable[Any]]) -> Any:
        await inner(question)
        raise ValueError

    hooks = Hooks()
    hooks.load(_trusted("judge", 5, _refuses))
    hooks.load(_trusted("broken", 1, broken))
    hooks.load(_trusted("lenient", 2, lenient))
    assert await hooks.first(JUDGE_RESULT, delivered("fine")) is None
    given = await hooks.first(JUDGE_RESULT, delivered("bad"))
    assert given is not None and given.plugin == "judge"
    assert hooks.take_counts()["judge", "1"].calls == 2, "each question reaches the inner ones once"


async def test_a_plugin_that_is_unloaded_is_asked_no_more() -> None:
    hooks = Hooks()
    hooks.load(_trusted("a", 1, _refuses))
    assert hooks.has(JUDGE_RESULT)
    hooks.unload("a")
    hooks.unload("a")
    assert not hooks.has(JUDGE_RESULT)


def test_packages_that_the_settings_do_not_name_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.kernel.hooks.trusted.entry_points", lambda group: _no_points())
    assert trusted_plugins(["some-package"]) == []
    assert trusted_plugins([]) == []


def _no_points() -> list[Any]:
    return [SimpleNamespace(name="x", dist=SimpleNamespace(name="another-package", version="1"))]


def _of_three(order: str) -> OffersRanked:
    """The question that is left of three offers after one plugin has put them in an order."""

    @plugin_hook(RANK_OFFERS)
    def rank(_: OffersRanked) -> Order:
        return Order(order=order)

    hooks = Hooks()
    hooks.load(_trusted("a", 1, rank))
    usual: dict[str, Any] = {"at": 0, "account": "a", "kind": "embed", "model": "", "prefer": "", "units_max": 1}
    return asyncio.run(hooks.fold(RANK_OFFERS, OffersRanked(**usual, count=3, offers='["x","y","z"]')))


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ("2,0", "zxy"),
        ("1", "yxz"),
        ("0,1,2", "xyz"),
        ("3", "xyz"),
        ("1,1", "xyz"),
        ("", "xyz"),
        ("-1", "xyz"),
        ("²", "xyz"),
    ],
)
def test_offers_are_put_in_an_order_and_a_wrong_one_leaves_them(order: str, left: str) -> None:
    assert "".join(json.loads(_of_three(order).offers)) == left


async def test_all_are_told_of_what_happened_and_one_that_breaks_takes_nobody_with_it() -> None:
    heard: list[str] = []

    @plugin_hook(NOTIFY)
    def breaks(_: Happened) -> None:
        raise ZeroDivisionError("oh")

    @plugin_hook(NOTIFY)
    async def hears(what: Happened) -> Noted:
        heard.append(what.kind)
        return Noted()

    hooks = Hooks(HookSettings(rest_after=2))
    hooks.load(_trusted("a", 1, breaks))
    hooks.load(_trusted("b", 2, hears))
    notifier = PluginNotifier(hooks)
    event = PluginVersionDecided(account="acct_x", plugin="a.b", version="1.0.0", state="passed")
    notifier.tell([(new_uuid(), event)] * 3)
    await notifier.close()
    assert heard == ["plugins.version_decided"] * 3
    counts = hooks.take_counts()
    assert (counts["a", "1"].failures, counts["b", "1"].calls) == (2, 3), "the broken one rests"
