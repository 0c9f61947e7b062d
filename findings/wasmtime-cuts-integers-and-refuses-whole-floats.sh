#!/usr/bin/env bash
# wasmtime 50.0.1 (Python): an integer that does not fit loses its upper bits without an error; a whole number for a float is refused.
#
# Arguments, globals and what a host function answers go through C conversions that check no range: 4,294,967,301 given to an `i32`
# arrives as 5, and 2^63 given to an `i64` as the lowest negative number. Every i32 comes back signed, so an offset in the upper half of
# a memory is negative. The other way round, 5 given to an `f64` is a TypeError, which 5.0 is not: the strict side is where no digit
# would be lost. An amount in minor units that outgrows its type becomes another amount.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   i32: 4294967301 -> 5, i64: 9223372036854775808 -> -9223372036854775808, host's 1099511627785 -> 9, f64: 5 -> TypeError
# What follows here: amounts cross into a plugin in records in its memory, which are packed with a check of each range; only lengths
# and offsets cross as i32, read as unsigned and checked against the size of the memory before they are used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wasmtime==50.0.1 >&2
HOME=$folder "$folder/venv/bin/python" - <<'PY'
import wasmtime

MODULE = """(module
  (import "host" "amount" (func $amount (result i32)))
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "asked") (result i32) (call $amount)))"""

store = wasmtime.Store()
linker = wasmtime.Linker(store.engine)
linker.define_func("host", "amount", wasmtime.FuncType([], [wasmtime.ValType.i32()]), lambda: 2**40 + 9)
exports = linker.instantiate(store, wasmtime.Module(store.engine, MODULE)).exports(store)
try:
    whole = str(exports["f64"](store, 5))
except TypeError as error:
    whole = type(error).__name__
cut32, cut64, host = exports["i32"](store, 2**32 + 5), exports["i64"](store, 2**63), exports["asked"](store)
seen = f"i32: {2**32 + 5} -> {cut32}, i64: {2**63} -> {cut64}, host's {2**40 + 9} -> {host}, f64: 5 -> {whole}"
print(seen)
assert (cut32, cut64, host, whole) == (5, -(2**63), 9, "TypeError"), seen
assert exports["f64"](store, 5.0) == 5.0
PY
