"""Calls of a WebAssembly function with a buffer that is made once, for modules that call nothing of the host.

wasmtime's `Func` asks for the type of a function and wraps each number anew at every call, which takes ten times as
long as the call itself. Here the type is checked once, which the C function that is called then relies on.
"""

import ctypes
from typing import Any

from aitbc.kernel.hooks.points import PluginFailed


class DirectCall:
    """A function of an instance that takes an `i32` and gives an `i32`."""

    def __init__(self, store: Any, function: Any) -> None:
        """Raises `PluginFailed` for a function of another type."""
        import wasmtime  # noqa: PLC0415
        from wasmtime import _ffi as ffi  # noqa: PLC0415

        i32, type_ = wasmtime.ValType.i32(), function.type(store)
        if type_.params != [i32] or type_.results != [i32]:
            raise PluginFailed("it cannot be called: its function must take an i32 and give an i32")
        self._call = ffi.wasmtime_func_call_unchecked
        self._store, self._function = store, function  # they own what the pointers below point to
        self._context = store._context()  # noqa: SLF001
        self._pointer = ctypes.byref(function._func)  # noqa: SLF001
        self._value = ffi.wasmtime_val_raw_t()
        self._values = ctypes.byref(self._value)
        self._trap: Any = ctypes.POINTER(ffi.wasm_trap_t)()
        self._traps = ctypes.byref(self._trap)

    def __call__(self, number: int) -> int:
        """What it gives, as an unsigned number. Raises `wasmtime.Trap`, after which it is not called any more."""
        self._value.i32 = number
        error: Any = self._call(self._context, self._pointer, self._values, 1, self._traps)
        if error or self._trap:
            self._raise(error)
        return self._value.i32 & 0xFFFF_FFFF

    def _raise(self, error: Any) -> None:
        import wasmtime  # noqa: PLC0415

        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)  # noqa: SLF001
        raise wasmtime.Trap._from_ptr(self._trap)  # noqa: SLF001
