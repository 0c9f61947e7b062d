"""Sandboxed plugins answer within their limits; hostile ones end with their reason and leave nothing behind."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.hooks.engine import compile_apart, compiled
from aitbc.kernel.hooks.points import JUDGE_RESULT, PRICE, PluginFailed
from aitbc.kernel.hooks.sandbox import Sandbox
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.hooks.values import QUOTA_BYTES
from tests.kernel.hooks.hostile import HOSTILE, LOOP
from tests.kernel.hooks.plugins import HALF, delivered, manifest, module, price_asked, sandbox
from tests.scale import scaled

LOG = '(import "aitbc" "log" (func $log (param i32 i32)))'
STORAGE = """(import "aitbc" "get" (func $get (param i32 i32 i32 i32) (result i32)))
             (import "aitbc" "put" (func $put (param i32 i32 i32 i32) (result i32)))"""


async def test_a_price_is_halved_and_state_is_read_where_it_stands() -> None:
    half = sandbox(module(HALF))
    for price in (1000, 7, 2**62):
        assert (await half.ask(PRICE, price_asked(unit_price_units=price), None)).unit_price_units == price // 2


async def test_a_text_is_read_and_answered() -> None:
    judge = sandbox(
        module(
            """(local $at i32)
            (if (i32.ne (i32.load8_u (i32.load offset=48 (global.get $question))) (i32.const 120)) (then (return (i32.const 0))))
            (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 7)) (i32.const 16)""",
            hook="judge_result.1",
            data='(data (i32.const 32) "an x ä")',
        ),
        hooks=("judge_result.1",),
    )
    assert await judge.ask(JUDGE_RESULT, delivered("y"), None) is None
    assert (await judge.ask(JUDGE_RESULT, delivered("xyz"), None)).reason == "an x ä"


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_module_ends_with_its_reason_and_the_next_call_is_new(name: str) -> None:
    code, reason = HOSTILE[name]
    hook = JUDGE_RESULT if b"judge_result.1" in code else PRICE
    question: Any = delivered("x") if hook is JUDGE_RESULT else price_asked()
    hostile = sandbox(code, hooks=(hook.key,))
    for _ in range(2):
        with pytest.raises(PluginFailed, match=reason):
            await hostile.ask(hook, question, None)


async def test_others_are_served_while_one_loops() -> None:
    hostile = sandbox(module(LOOP), HookSettings(wall_ms=300))
    looping = asyncio.create_task(hostile.ask(PRICE, price_asked(), None))
    turns = 0
    while not looping.done():
        turns += 1
        await asyncio.sleep(0.005)
    with pytest.raises(PluginFailed):
        await looping
    assert turns >= 2, "the event loop went on turning: a call that blocks it leaves one turn"


async def test_the_host_cannot_be_called_without_end() -> None:
    storm = sandbox(
        module("(loop $again (call $log (i32.const 0) (i32.const 1)) (br $again)) (i32.const 0)", imports=LOG),
        permissions=("log",),
    )
    with pytest.raises(PluginFailed, match="called the host more than 256 times"):
        await storm.ask(PRICE, price_asked(), None)


async def test_what_was_not_granted_cannot_be_called() -> None:
    refused = sandbox(module("(i32.const 0)", imports=LOG))
    with pytest.raises(PluginFailed, match="cannot be instantiated"):
        await refused.ask(PRICE, price_asked(), None)
    foreign = '(import "wasi_snapshot_preview1" "fd_write" (func $log (param i32 i32)))'
    with pytest.raises(PluginFailed, match="cannot be instantiated"):
        await sandbox(module("(i32.const 0)", imports=foreign), permissions=("log", "storage")).ask(
            PRICE, price_asked(), None
        )


async def test_values_are_kept_from_call_to_call_and_the_quota_holds() -> None:
    counting = sandbox(
        module(
            """(drop (call $get (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 8)))
            (i64.store (i32.const 64) (i64.add (i64.load (i32.const 64)) (i64.const 1)))
            (drop (call $put (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 8)))
            (i64.store (i32.const 16) (i64.load (i32.const 64))) (i32.const 16)""",
            imports=STORAGE,
            data='(data (i32.const 0) "k")',
        ),
        permissions=("storage",),
    )
    prices = [(await counting.ask(PRICE, price_asked(), None)).unit_price_units for _ in range(3)]
    assert prices == [1, 2, 3]
    assert counting.values.take_changes() == {b"k": (3).to_bytes(8, "little")}
    assert not counting.values.put(b"", b"x")
    kept = sum(counting.values.put(str(n).encode(), b"x" * 16_000) for n in range(100))
    assert kept == QUOTA_BYTES // 16_002 and counting.values.put(b"0", b"y")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (module("(i32.const 0)", pages=1), "leaves no 65536 bytes"),
        (module("(i32.const 0)", hook="other.1"), "does not export"),
        (module("(i32.const 0)", pages=1000), "cannot be instantiated"),
    ],
)
def test_a_module_of_another_form_is_refused_when_it_is_tried_out(text: bytes, reason: str) -> None:
    with pytest.raises(PluginFailed, match=reason):
        sandbox(text).try_out()


async def test_a_function_of_another_form_cannot_be_called() -> None:
    wrong = sandbox(module("(i32.const 0)", hook="other.1", more='(func (export "price.1") (param i64 i64))'))
    with pytest.raises(PluginFailed, match="cannot be called"):
        await wrong.ask(PRICE, price_asked(), None)


def test_what_is_no_module_is_not_compiled_here_or_apart() -> None:
    with pytest.raises(PluginFailed, match="cannot be compiled"):
        compiled(b"\0asm\x01\0\0\0garbage")
    assert "cannot be compiled" in (compile_apart(b"nonsense") or "")
    assert compile_apart(module(HALF)) is None


async def test_memory_returns_after_many_loads() -> None:
    code = compiled(module(HALF, imports=LOG))
    declared = manifest(permissions=("log",))

    async def once() -> None:
        made = Sandbox(declared, code, HookSettings())
        made.permissions = frozenset({"log"})
        assert (await made.ask(PRICE, price_asked(), None)).unit_price_units == 500
        made.close()

    before = 0
    for turn in range(scaled(100, 10_000)):
        await once()
        if turn == scaled(40, 200):  # what is kept for good is there by then
            gc.collect()
            before = _resident()
    gc.collect()
    assert _resident() - before < 64 * 1024 * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
