"""The part of a proof of hardware that runs on the device, in a Python with torch or cupy: JSON in, JSON out.

It stands alone, since that Python need not have this package. `product` fills two matrices of int8 with numbers that
only the seed decides, multiplies them exactly, and answers the Merkle root of the rows of the product; `rows` opens
some of them. `fill` fills memory with such numbers, and `read` answers some of them.
"""

import base64
import ctypes
import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MASK = 0xFFFFFFFF
BLOCK = 1024
"""So many products of two int8 are summed exactly in 24 bits."""
WARM_UP_SIZE = 256
"""Of the product that is made before the time runs: libraries are loaded and compile with the first."""
WORDS = 1 << 24
"""How many numbers of 4 bytes a piece of filled memory has."""


def keys_of(seed: str, name: str) -> tuple[int, int]:
    """The two keys under which a seed makes the numbers of one matrix."""
    digest = hashlib.sha256(f"aitbc.proof.v1:{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def mixed(x: Any) -> Any:
    """Each 32-bit number of an array, or one, mixed (the finalizer of MurmurHash3)."""
    x = x ^ (x >> 16)
    x = (x * 0x85EBCA6B) & MASK
    x = x ^ (x >> 13)
    x = (x * 0xC2B2AE35) & MASK
    return x ^ (x >> 16)


def numbers(places: Any, keys: tuple[int, int]) -> Any:
    """The 32-bit numbers at these places of an endless sequence; the places are an array of 64-bit integers, or one."""
    x = ((places & MASK) * 0x9E3779B1 + (places >> 32) * 0x27D4EB2F + keys[0]) & MASK
    return mixed((mixed(x) + keys[1]) & MASK)


class Plain:
    """Python alone: exact, slow, and for small sizes."""

    name = "plain"

    def forget(self) -> None:
        """Nothing is kept of a product."""

    def product(self, seed: str, size: int) -> memoryview:
        """The rows of the product, as int32 in little endian."""
        one, other = (
            [[numbers(row * size + at, keys_of(seed, name)) % 256 - 128 for at in range(size)] for row in range(size)]
            for name in ("a", "b")
        )
        entries = [sum(a * b for a, b in zip(row, column)) for row in one for column in other]  # noqa: B905 - Python 3.8
        return memoryview(b"".join(entry.to_bytes(4, "little", signed=True) for entry in entries))

    def fill(self, seed: str, mib: int) -> None:
        """Fill memory."""
        keys = keys_of(seed, "memory")
        self._filled = [numbers(place, keys) for place in range(mib * 262_144)]

    def read(self, places: list[int]) -> list[int]:
        """What stands at these places."""
        return [self._filled[place] for place in places]


class Torch:
    """PyTorch on the first device that CUDA shows."""

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise LookupError("torch finds no GPU")
        self._torch = torch
        self.name = f"torch {torch.__version__}"
        self.product("warm up", WARM_UP_SIZE)

    def _numbers(self, first: int, count: int, keys: tuple[int, int]) -> Any:
        return numbers(self._torch.arange(first, first + count, dtype=self._torch.int64, device="cuda"), keys)

    def _matrix(self, seed: str, name: str, size: int) -> Any:
        torch, keys = self._torch, keys_of(seed, name)
        made = torch.empty((size, size), dtype=torch.int8, device="cuda")
        rows = max(1, WORDS // size)
        for first in range(0, size, rows):
            count = min(rows, size - first)
            made[first : first + count] = (
                (self._numbers(first * size, count * size, keys) % 256 - 128).to(torch.int8).view(count, size)
            )
        return made

    def product(self, seed: str, size: int) -> memoryview:
        """The rows of the product, as int32 in little endian."""
        torch = self._torch
        one, other = self._matrix(seed, "a", size), self._matrix(seed, "b", size)
        try:
            found = torch._int_mm(one, other.t())  # noqa: SLF001 - it has no other name
        except (AttributeError, RuntimeError):  # no product of int8 here: exactly, in blocks of float32
            torch.backends.cuda.matmul.allow_tf32 = False
            found = torch.zeros((size, size), dtype=torch.int32, device="cuda")
            for at in range(0, size, BLOCK):
                part = one[:, at : at + BLOCK].float() @ other[:, at : at + BLOCK].float().t()
                found += part.to(torch.int32)
        self._host = found.contiguous().cpu()
        raw = (ctypes.c_char * (4 * size * size)).from_address(self._host.data_ptr())
        return memoryview(raw).cast("B")

    def forget(self) -> None:
        """Let the product go."""
        self._host = None

    def fill(self, seed: str, mib: int) -> None:
        """Fill memory of the device."""
        torch, keys, self._filled = self._torch, keys_of(seed, "memory"), []
        torch.cuda.empty_cache()
        for first in range(0, mib * 262_144, WORDS):
            count = min(WORDS, mib * 262_144 - first)
            self._filled.append((self._numbers(first, count, keys) - 2**31).to(torch.int32))
        torch.cuda.synchronize()

    def read(self, places: list[int]) -> list[int]:
        """What stands at these places of the device's memory."""
        return [int(self._filled[place // WORDS][place % WORDS].item()) + 2**31 for place in places]


class Cupy:
    """CuPy on the first device that CUDA shows."""

    def __init__(self) -> None:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
        self._cupy = cupy
        self.name = f"cupy {cupy.__version__}"
        self.product("warm up", WARM_UP_SIZE)

    def _numbers(self, first: int, count: int, keys: tuple[int, int]) -> Any:
        return numbers(self._cupy.arange(first, first + count, dtype=self._cupy.int64), keys)

    def product(self, seed: str, size: int) -> memoryview:
        """The rows of the product, as int32 in little endian, in exact blocks of float32."""
        cupy = self._cupy
        one, other = (
            (self._numbers(0, size * size, keys_of(seed, name)) % 256 - 128).astype(cupy.int8).reshape(size, size)
            for name in ("a", "b")
        )
        found = cupy.zeros((size, size), dtype=cupy.int32)
        for at in range(0, size, BLOCK):
            part = one[:, at : at + BLOCK].astype("f4") @ other[:, at : at + BLOCK].astype("f4").T
            found += part.astype(cupy.int32)
        return memoryview(cupy.asnumpy(found).tobytes())

    def forget(self) -> None:
        """Nothing is kept of a product."""

    def fill(self, seed: str, mib: int) -> None:
        """Fill memory of the device."""
        cupy, keys, self._filled = self._cupy, keys_of(seed, "memory"), []
        cupy.get_default_memory_pool().free_all_blocks()
        for first in range(0, mib * 262_144, WORDS):
            count = min(WORDS, mib * 262_144 - first)
            self._filled.append(self._numbers(first, count, keys).astype(cupy.uint32))
        cupy.cuda.runtime.deviceSynchronize()

    def read(self, places: list[int]) -> list[int]:
        """What stands at these places of the device's memory."""
        return [int(self._filled[place // WORDS][place % WORDS]) for place in places]


class Tree:
    """The Merkle tree over the rows of a product; their number is a power of two."""

    def __init__(self, rows: list[memoryview]) -> None:
        with ThreadPoolExecutor() as threads:  # hashing lets other threads run
            leaves = list(threads.map(lambda row: hashlib.sha256(b"\0" + row).digest(), rows, chunksize=64))
        self.rows, self.levels = rows, [leaves]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            self.levels.append(
                [hashlib.sha256(b"\1" + below[at] + below[at + 1]).digest() for at in range(0, len(below), 2)]
            )

    def opened(self, row: int) -> dict[str, Any]:
        """A row with the hashes beside its way to the root."""
        path = [level[(row >> height) ^ 1].hex() for height, level in enumerate(self.levels[:-1])]
        return {"row": row, "values": base64.b64encode(self.rows[row]).decode(), "path": path}


def runtime_of(name: str) -> Any:
    """The runtime of a name; with `auto` torch or cupy, whichever works here. Raises `LookupError`."""
    if name == "plain":
        return Plain()
    said = []
    for kind in (Torch, Cupy):
        try:
            return kind()
        except Exception as error:  # noqa: BLE001 - whatever a library does when it cannot be used
            said.append(f"{kind.__name__.lower()}: {type(error).__name__} {error}")
    raise LookupError("no runtime: " + "; ".join(said))


def answer(runtime: Any, asked: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The answer to one line."""
    if asked["do"] == "product":
        size, begun = asked["size"], time.monotonic()
        raw = runtime.product(asked["seed"], size)
        multiplied = time.monotonic()
        kept["tree"] = Tree([raw[row * size * 4 : (row + 1) * size * 4] for row in range(size)])
        hashed = time.monotonic()
        times = {"product_ms": round((multiplied - begun) * 1000), "hash_ms": round((hashed - multiplied) * 1000)}
        return {"root": kept["tree"].levels[-1][0].hex(), "runtime": runtime.name, **times}
    if asked["do"] == "rows":
        return {"rows": [kept["tree"].opened(row) for row in asked["rows"]]}
    if asked["do"] == "fill":
        kept.clear()
        runtime.forget()
        runtime.fill(asked["seed"], asked["mib"])
        return {"filled_mib": asked["mib"]}
    return {"values": runtime.read(asked["places"])}


def main() -> None:
    """Answer line after line, until the input ends."""
    kept: dict[str, Any] = {}
    try:
        runtime = runtime_of(sys.argv[1] if len(sys.argv) > 1 else "auto")
        print(json.dumps({"runtime": runtime.name}), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(runtime, json.loads(line), kept)), flush=True)
    except Exception as error:  # noqa: BLE001 - whatever happens is told
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:400]}), flush=True)


if __name__ == "__main__":
    main()
