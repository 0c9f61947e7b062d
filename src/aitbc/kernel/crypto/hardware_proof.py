"""Proofs of hardware, checked in plain Python: numbers that only a seed decides, rows of a product, and their tree.

The matrices A and B are of int8; B is kept by its columns. Number `i` of a matrix is a mix of `i` and two keys that
SHA-256 makes of the seed and the matrix's name. The product A by B is of int32; SHA-256 over each of its rows, in
little endian, are the leaves of a Merkle tree, whose root is sent before anybody knows which rows will be opened.
"""

import hashlib
import struct
from collections.abc import Sequence

VERSION = "aitbc.proof.v1"
_MASK = 0xFFFFFFFF


def keys_of(seed: str, name: str) -> tuple[int, int]:
    """The two keys under which a seed makes the numbers of `a`, `b` or `memory`."""
    digest = hashlib.sha256(f"{VERSION}:{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def _mixed(x: int) -> int:
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & _MASK
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


def number(place: int, keys: tuple[int, int]) -> int:
    """The 32-bit number at a place."""
    x = ((place & _MASK) * 0x9E3779B1 + (place >> 32) * 0x27D4EB2F + keys[0]) & _MASK
    return _mixed((_mixed(x) + keys[1]) & _MASK)


def line_of(seed: str, name: str, at: int, size: int) -> list[int]:
    """A row of `a`, or a column of `b`."""
    keys = keys_of(seed, name)
    return [number(at * size + place, keys) % 256 - 128 for place in range(size)]


def is_in_tree(root: bytes, row: int, values: bytes, path: Sequence[bytes]) -> bool:
    """Whether a row with these bytes is in the tree of this root."""
    found = hashlib.sha256(b"\0" + values).digest()
    for height, beside in enumerate(path):
        pair = beside + found if row >> height & 1 else found + beside
        found = hashlib.sha256(b"\1" + pair).digest()
    return found == root


def is_of_product(seed: str, size: int, row: int, values: bytes, columns: Sequence[int]) -> bool:
    """Whether a row of the product is right at these columns."""
    entries = struct.unpack(f"<{size}i", values)
    left = line_of(seed, "a", row, size)
    return all(
        entries[column] == sum(a * b for a, b in zip(left, line_of(seed, "b", column, size), strict=True))
        for column in columns
    )
