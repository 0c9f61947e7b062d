"""Hooks: what asking costs with nobody there, with a function of Python, and with a sandboxed module that is warm."""

import asyncio
import time
from collections.abc import Callable

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import PRICE, Price, PriceAsked
from aitbc.kernel.hooks.trusted import Trusted, plugin_hook
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.kernel.hooks.plugins import HALF, module, price_asked, sandbox

KEYS = ("hook_native_us", "hook_wasm_us", "hook_none_ns")
TURNS = 2_000


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
        "hook_none_ns": [asyncio.run(_asked(none)) * 1e9 for _ in range(ground.rounds)],
    }
    return {key: Measured.of(rounds) for key, rounds in found.items()}


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
