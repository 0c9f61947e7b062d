"""Sandboxed plugins: a WebAssembly module with fuel, a little memory and a little time, which sees what it is asked.

A call runs in the event loop as long as its plugin needs little fuel and calls nothing of the host; the first call that
needs more is run once more in a thread, and so are all after it. An instance is kept from one call to the next and
dropped after each failure, and after some thousands of calls.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import structlog

from aitbc.kernel.hooks import engine as engines
from aitbc.kernel.hooks.direct_call import DirectCall
from aitbc.kernel.hooks.hooks import Inner
from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.points import Hook, PluginFailed
from aitbc.kernel.hooks.record import RECORD_BYTES_MAX, BadRecord, layout_of
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.hooks.values import Values

FUEL_INLINE = 200_000
"""About half a millisecond."""
FUEL_MAX = 10_000_000
"""About ten milliseconds: one that never ends takes no more of a processor from those who are served meanwhile."""
HOST_CALLS_MAX = 256
"""Of one call: what the host does burns no fuel."""
CALLS_OF_AN_INSTANCE = 10_000
LOG_BYTES_MAX = 500
THREADS = 4
PAGE = 64 * 1024

log = structlog.get_logger("aitbc.hooks")


class _NeedsMore(Exception):
    """The call needs more fuel than it may burn in the event loop."""


class _TooManyHostCalls(Exception):
    """A call that lets the host work without end."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="plugin")


os.register_at_fork(after_in_child=_threads.cache_clear)


class _Instance:
    """A module with its memory, its entry points by hook, and what it may still do in a call."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self.host_calls = _HostCalls()
        self.left = CALLS_OF_AN_INSTANCE
        linker = _linker(self.host_calls, sandbox)
        self.store, self.exports = engines.instantiated(sandbox.module, linker, sandbox.memory_bytes)
        self.memory = self.exports["memory"]
        self.question = self.exports["question"].value(self.store)
        self.functions = {key: self._function(self.exports[key], sandbox) for key in sandbox.hooks}
        if not 0 <= self.question <= self.memory.data_len(self.store) - RECORD_BYTES_MAX:
            raise PluginFailed(f"`question` leaves no {RECORD_BYTES_MAX} bytes of its memory")

    def _function(self, exported: Any, sandbox: "Sandbox") -> Callable[[int], int]:
        """A function of it. What a host function raises only wasmtime's own call hands on."""
        if not sandbox.permissions:
            return DirectCall(self.store, exported)
        return lambda length: exported(self.store, length) & 0xFFFF_FFFF

    def _memory(self) -> int:
        """Where its memory stands at the moment, in that of the process."""
        return ctypes.addressof(self.memory.data_ptr(self.store).contents)

    def _answer(self, hook: Hook[Any, Any], address: int) -> Any:
        """The answer at an address of its memory. Raises `PluginFailed`, `BadRecord`."""
        start, end = self._memory(), self.memory.data_len(self.store)

        def read(address: int, length: int) -> bytes:
            if address > end - length:
                raise PluginFailed("it points outside of its memory")
            return ctypes.string_at(start + address, length)

        return layout_of(hook.answer).decode(address, read)

    def call(self, hook: Hook[Any, Any], question: Any, fuel: int, ticks: int) -> Any:
        """Ask, with so much fuel and time. Raises `PluginFailed`, and `_NeedsMore` for want of fuel."""
        import wasmtime  # noqa: PLC0415

        self.left -= 1
        self.host_calls.made = 0
        self.store.set_fuel(fuel)
        self.store.set_epoch_deadline(ticks)
        try:
            record = layout_of(hook.question).encode(question, self.question)
            ctypes.memmove(self._memory() + self.question, record, len(record))
            address = self.functions[hook.key](len(record))
            return self._answer(hook, address) if address else None
        except wasmtime.Trap as trap:
            if trap.trap_code == wasmtime.TrapCode.OUT_OF_FUEL:
                raise _NeedsMore from None
            raise PluginFailed(_reason(trap)) from None
        except (BadRecord, _TooManyHostCalls) as error:
            raise PluginFailed(str(error)) from None
        except (wasmtime.WasmtimeError, TypeError) as error:
            raise PluginFailed(f"it cannot be called: {str(error).splitlines()[0][:200]}") from None


class Sandbox:
    """A sandboxed plugin, compiled and ready to be asked."""

    wraps: frozenset[str] = frozenset()

    def __init__(self, manifest: Manifest, module: Any, settings: HookSettings, *, priority: int = 100) -> None:
        self.name = manifest.name
        self.version = manifest.version
        self.priority = priority
        self.hooks = frozenset(manifest.hooks)
        self.module = module
        self.values = Values()
        self.permissions: frozenset[str] = frozenset()
        """What was granted; nothing until it is."""
        self.memory_bytes = settings.memory_mib * 1024 * 1024
        self._ticks = max(2, round(settings.wall_ms / 1000 / engines.TICK_SECONDS))
        self._inline = not manifest.permissions
        self._idle: list[_Instance] = []

    def try_out(self) -> None:
        """Make an instance, to see that it has what it must. Raises `PluginFailed`."""
        self._give_back(self._instance())

    async def ask(self, hook: Hook[Any, Any], question: Any, inner: Inner | None) -> Any:
        """Its answer, or none. Raises `PluginFailed`."""
        if self._inline:
            try:
                return self._call(hook, question, FUEL_INLINE)
            except _NeedsMore:
                self._inline = False
        async with asyncio.timeout(hook.seconds):
            return await asyncio.get_running_loop().run_in_executor(_threads(), self._call_long, hook, question)

    def close(self) -> None:
        """Let its instances go."""
        self._idle.clear()

    def _call_long(self, hook: Hook[Any, Any], question: Any) -> Any:
        try:
            return self._call(hook, question, FUEL_MAX)
        except _NeedsMore:
            raise PluginFailed("it ran out of fuel") from None

    def _call(self, hook: Hook[Any, Any], question: Any, fuel: int) -> Any:
        instance = self._idle.pop() if self._idle else self._instance()
        answer = instance.call(hook, question, fuel, self._ticks)
        self._give_back(instance)  # not after a failure: its memory is half changed then
        return answer

    def _give_back(self, instance: _Instance) -> None:
        if instance.left > 0 and len(self._idle) < THREADS:
            self._idle.append(instance)

    def _instance(self) -> _Instance:
        try:
            return _Instance(self)
        except (KeyError, AttributeError):
            raise PluginFailed(f"it does not export memory, question and {', '.join(sorted(self.hooks))}") from None


def _linker(calls: "_HostCalls", sandbox: Sandbox) -> Any:
    """What of the host the module may call: what was granted, and nothing else.

    The functions know no instance: it is theirs as long as they are its, and would never be freed.
    """
    import wasmtime  # noqa: PLC0415

    i32 = wasmtime.ValType.i32()
    linker = wasmtime.Linker(engines.engine())

    def note(caller: Any, address: int, length: int) -> None:
        calls.count()
        text = _read(caller, address, min(max(length, 0), LOG_BYTES_MAX)).decode(errors="replace")
        log.info("plugin_says", plugin=sandbox.name, version=sandbox.version, text=text)

    def get(caller: Any, key: int, key_length: int, room: int, room_length: int) -> int:
        calls.count()
        found = sandbox.values.get(_read(caller, key, min(max(key_length, 0), 1000)))
        if found is None:
            return -1
        shown = min(len(found), max(room_length, 0))
        _read(caller, room, shown)
        caller["memory"].write(caller, found[:shown], room & 0xFFFF_FFFF)
        return len(found)

    def put(caller: Any, key: int, key_length: int, value: int, length: int) -> int:
        calls.count()
        name = _read(caller, key, min(max(key_length, 0), 1000))
        return 0 if sandbox.values.put(name, _read(caller, value, max(length, 0))) else -1

    if "log" in sandbox.permissions:
        linker.define_func("aitbc", "log", wasmtime.FuncType([i32, i32], []), note, access_caller=True)
    if "storage" in sandbox.permissions:
        linker.define_func("aitbc", "get", wasmtime.FuncType([i32] * 4, [i32]), get, access_caller=True)
        linker.define_func("aitbc", "put", wasmtime.FuncType([i32] * 4, [i32]), put, access_caller=True)
    return linker


class _HostCalls:
    """How often a call of a plugin called the host."""

    def __init__(self) -> None:
        self.made = 0

    def count(self) -> None:
        """Count one. Raises `_TooManyHostCalls`."""
        self.made += 1
        if self.made > HOST_CALLS_MAX:
            raise _TooManyHostCalls(f"it called the host more than {HOST_CALLS_MAX} times")


def _read(caller: Any, address: int, length: int) -> bytes:
    """Bytes of the caller's memory. Raises `PluginFailed`."""
    memory, start = caller["memory"], address & 0xFFFF_FFFF
    if start > memory.data_len(caller) - length:
        raise PluginFailed("it points outside of its memory")
    return bytes(memory.read(caller, start, start + length))


def _reason(trap: Any) -> str:
    """Why a call was ended, in words."""
    import wasmtime  # noqa: PLC0415

    known = {
        wasmtime.TrapCode.INTERRUPT: "it ran longer than it may",
        wasmtime.TrapCode.STACK_OVERFLOW: "its calls are nested too deep",
        wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "it reached outside of its memory",
        wasmtime.TrapCode.UNREACHABLE: "it gave up",
    }
    code = trap.trap_code
    return known.get(code, f"it broke off: {str(trap.message).splitlines()[0][:200]}")
