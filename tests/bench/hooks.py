"""Hooks: what asking costs with nobody there, with a function of Python, and with a sandboxed module that is warm."""

import asyncio
import time
from collections.abc import Callable

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import PRICE, Price, PriceAsked
from aitbc.kernel.hooks.trusted import Trusted, plugin_hook
from tests.bench.compare import interval
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.kernel.hooks.plugins import HALF, module, price_asked, sandbox

KEYS = ("hook_native_us", "hook_wasm_us", "hook_none_ns")
TURNS = 2_000
PAIRS, LOOKS = 20, 200_000


@plugin_hook(PRICE)
def _half(asked: PriceAsked) -> Price:
    return Price(unit_price_units=asked.unit_price_units // 2)


def measure(ground: Ground) -> dict[str, Measured]:
    """`hook_native_us`, `hook_wasm_us` and `hook_none_ns`: CPU of one call site, where a submission asks for its price."""
    native, wasm, none = Hooks(), Hooks(), Hooks()
    native.load(Trusted("half", "1", 0, {_half.__aitbc_hook__: _half}))  # type: ignore[attr-defined]
    wasm.load(sandbox(module(HALF)))
    found = {
        "hook_native_us": [asyncio.run(_asked(native)) * 1e6 for _ in range(ground.rounds)],
        "hook_wasm_us": [asyncio.run(_asked(wasm)) * 1e6 for _ in range(ground.rounds)],
    }
    return {key: Measured.of(rounds) for key, rounds in found.items()} | {"hook_none_ns": _paired(none)}


def _paired(hooks: Hooks) -> Measured:
    """What the look of a call site costs where nobody is there: in pairs of rounds with it and without it."""
    pairs = [_looked(hooks) for _ in range(PAIRS + 1)][1:]
    costs = [(with_it - without) * 1e9 / LOOKS for with_it, without in pairs]
    low, high = interval(costs)
    whole = asyncio.run(_asked(hooks)) * 1e9
    details = {"pairs": float(PAIRS), "95 % from, ns": low, "95 % to, ns": high, "with its coroutine, ns": whole}
    return Measured.of(costs, **details)


def _looked(hooks: Hooks) -> tuple[float, float]:
    """Seconds of CPU of so many looks, and of as many turns without one."""
    nobody = False
    started = time.process_time()
    for _ in range(LOOKS):
        if hooks.has(PRICE):
            raise AssertionError("nobody is asked")
    between = time.process_time()
    for _ in range(LOOKS):
        if nobody:
            raise AssertionError("nobody is asked")
    return between - started, time.process_time() - between


async def _asked(hooks: Hooks, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of CPU of one call site, as modules write it: a look, and a question only where somebody is there."""
    question = price_asked()
    for turns in (100, TURNS):  # the first are to warm up
        started = clock()
        for _ in range(turns):
            if hooks.has(PRICE):
                await hooks.fold(PRICE, question)
        spent = (clock() - started) / turns
    return spent
