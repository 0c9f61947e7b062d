"""Records: structs as sandboxed modules see them in their memory, eight bytes for each field in order.

A whole number is a signed 64-bit integer, little-endian. A text is its address and its length in bytes, each an
unsigned 32-bit integer, little-endian; it is UTF-8, and of a question it stands behind the record.
"""

import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from aitbc.kernel.hooks.points import TEXT_BYTES_MAX

RECORD_BYTES_MAX = 64 * 1024
_NUMBER_MAX = 2**63

S = TypeVar("S", bound=Struct)


class BadRecord(Exception):
    """A record that cannot be read, or that is too large to be written; the message says why."""


class Layout:
    """How a struct of whole numbers and texts is laid out."""

    def __init__(self, kind: type[Struct]) -> None:
        self._kind = kind
        self._fields = [(field.name, field.type) for field in msgspec.structs.fields(kind)]
        odd = [name for name, type_ in self._fields if type_ not in (int, str)]
        assert not odd, f"{kind.__name__} has fields that no record can hold: {odd}"
        self._slots = struct.Struct("<" + "q" * len(self._fields))
        self.size = self._slots.size

    def encode(self, value: Struct, address: int) -> bytes:
        """The record of a value that will stand at an address. Raises `BadRecord`."""
        slots: list[int] = []
        texts: list[bytes] = []
        end = address + self.size
        for name, type_ in self._fields:
            one = getattr(value, name)
            if type_ is str:
                text = one.encode()
                slots.append(end | len(text) << 32)
                texts.append(text)
                end += len(text)
            else:
                if not -_NUMBER_MAX <= one < _NUMBER_MAX:
                    raise BadRecord(f"{name} does not fit 64 bits")
                slots.append(one)
        if end - address > RECORD_BYTES_MAX:
            raise BadRecord(f"the question has more than {RECORD_BYTES_MAX} bytes")
        return self._slots.pack(*slots) + b"".join(texts)

    def decode(self, address: int, read: Callable[[int, int], bytes]) -> Any:
        """The struct of a record in a memory; `read(address, length)` gives its bytes. Raises `BadRecord`."""
        values: dict[str, Any] = {}
        slots = self._slots.unpack(read(address, self.size))
        for (name, type_), slot in zip(self._fields, slots, strict=True):
            values[name] = slot if type_ is int else _text(name, slot, read)
        return self._kind(**values)


def _text(name: str, slot: int, read: Callable[[int, int], bytes]) -> str:
    length = (slot >> 32) & 0xFFFF_FFFF
    if length > TEXT_BYTES_MAX:
        raise BadRecord(f"the text {name} has more than {TEXT_BYTES_MAX} bytes")
    try:
        return read(slot & 0xFFFF_FFFF, length).decode()
    except UnicodeDecodeError:
        raise BadRecord(f"the text {name} is not UTF-8") from None


_layouts: dict[type[Struct], Layout] = {}


def layout_of(kind: type[Struct]) -> Layout:
    """The layout of a struct, made once."""
    if kind not in _layouts:
        _layouts[kind] = Layout(kind)
    return _layouts[kind]
