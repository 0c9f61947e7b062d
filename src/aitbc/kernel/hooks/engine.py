"""The WebAssembly engine: how modules are compiled, and the limits that hold for each of their instances.

Loads wasmtime, the extra `plugins`, where it is first needed: without any sandboxed plugin nothing of it is loaded.
"""

import os
import subprocess
import sys
import threading
from functools import cache
from time import sleep
from typing import Any

from aitbc.kernel.hooks.points import NotHere, PluginFailed

TICK_SECONDS = 0.01
STACK_BYTES = 256 * 1024
COMPILE_SECONDS = 20
COMPILE_MEMORY = 2 * 1024**3
MISSING = "wasmtime is not installed here; install aitbc with the extra `plugins`"
CHECK = "import sys; from aitbc.kernel.hooks.engine import compile_alone; compile_alone(sys.stdin.buffer.read())"


def is_there() -> bool:
    """Whether sandboxed plugins can run in this installation."""
    try:
        import wasmtime  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


@cache
def engine() -> Any:
    """The engine of this process, and the thread that advances its epochs. Raises `NotHere` without wasmtime."""
    if not is_there():
        raise NotHere(MISSING)
    import wasmtime  # noqa: PLC0415

    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd = False
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_tail_call = False
    made = wasmtime.Engine(config)
    threading.Thread(target=_tick, args=(made,), daemon=True, name="plugin epochs").start()
    return made


os.register_at_fork(after_in_child=engine.cache_clear)  # a forked process has none of its parent's threads


def _tick(made: Any) -> None:
    while True:
        sleep(TICK_SECONDS)
        made.increment_epoch()


def compiled(code: bytes) -> Any:
    """The compiled module. It blocks for as long as that takes. Raises `PluginFailed`."""
    made = engine()
    import wasmtime  # noqa: PLC0415

    try:
        return wasmtime.Module(made, code)
    except wasmtime.WasmtimeError as error:
        raise PluginFailed(f"it cannot be compiled: {str(error).splitlines()[0][:300]}") from None


def compile_apart(code: bytes) -> str | None:
    """Compile a stranger's module in a process of its own, which has a deadline and a limit on memory; why it failed.

    It blocks for as long as that takes. Raises `NotHere` where nothing can be compiled.
    """
    if not is_there():
        raise NotHere(MISSING)
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHECK], input=code, capture_output=True, timeout=COMPILE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not compiled within {COMPILE_SECONDS} s"
    if done.returncode == 0:
        return None
    if done.returncode == 3:
        return done.stderr.decode(errors="replace").strip()[-300:]
    return f"compiling it ended with {done.returncode}"


def compile_alone(code: bytes) -> None:
    """Compile, as the only thing that this process does, and end it."""
    import resource  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_CPU, (COMPILE_SECONDS, COMPILE_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (COMPILE_MEMORY, COMPILE_MEMORY))
    try:
        compiled(code)
    except PluginFailed as failure:
        sys.stderr.write(str(failure))
        sys.exit(3)


def instantiated(module: Any, linker: Any, memory_bytes: int) -> tuple[Any, Any]:
    """A new store with the limits of one instance, and the instance's exports. Raises `PluginFailed`."""
    import wasmtime  # noqa: PLC0415

    store = wasmtime.Store(engine())
    store.set_limits(memory_size=memory_bytes, memories=1, instances=1, tables=1, table_elements=10_000)
    store.set_fuel(1_000_000)
    store.set_epoch_deadline(round(1 / TICK_SECONDS))
    try:
        return store, linker.instantiate(store, module).exports(store)
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise PluginFailed(f"it cannot be instantiated: {str(error).splitlines()[0][:300]}") from None
