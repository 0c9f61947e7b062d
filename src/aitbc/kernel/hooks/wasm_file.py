"""WebAssembly modules as files: imports, exports, sizes, read without running or compiling anything."""

from collections.abc import Iterator

from msgspec import Struct

MAGIC = b"\0asm\x01\0\0\0"
EXTERNAL = ("func", "table", "memory", "global", "tag")
_IMPORTS, _MEMORIES, _EXPORTS, _START, _CODE = 2, 5, 7, 8, 10


class NotWasm(Exception):
    """These bytes are no WebAssembly module; the message says where they stop being one."""


class WasmFile(Struct, frozen=True, kw_only=True):
    """What can be seen of a module from outside."""

    imports: tuple[tuple[str, str, str], ...]
    """The module, the name and the kind of each import."""
    exports: dict[str, str]
    """By name: the kind of each export."""
    functions: int
    longest_function: int
    """Bytes of the longest function's code."""
    memories: int
    starts: bool
    """Whether a function runs as soon as it is instantiated."""


class _Reader:
    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self.at, self._end = data, start, end

    def number(self) -> int:
        """An unsigned number of at most 32 bits, LEB128."""
        result = shift = 0
        while True:
            byte = self.bytes(1)[0]
            result |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return result
            if shift > 28:
                raise NotWasm(f"a number at byte {self.at} is too long")

    def bytes(self, length: int) -> bytes:
        """The next bytes."""
        if length > self._end - self.at:
            raise NotWasm(f"it ends early, at byte {self._end}")
        self.at += length
        return self._data[self.at - length : self.at]

    def text(self) -> str:
        """A name."""
        try:
            return self.bytes(self.number()).decode()
        except UnicodeDecodeError:
            raise NotWasm(f"a name before byte {self.at} is not UTF-8") from None

    def limits(self) -> None:
        """Skip the limits of a table or a memory."""
        flags = self.number()
        for _ in range(1 + (flags & 1)):
            self.number()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= self._end


def read_wasm(data: bytes) -> WasmFile:
    """What can be seen of a module. Raises `NotWasm`."""
    if data[:8] != MAGIC:
        raise NotWasm("it does not begin as a WebAssembly module does")
    imports: list[tuple[str, str, str]] = []
    exports: dict[str, str] = {}
    sizes: list[int] = []
    memories, starts = 0, False
    for section, reader in _sections(data):
        if section == _IMPORTS:
            imports = [_import(reader) for _ in range(reader.number())]
        elif section == _MEMORIES:
            memories = reader.number()
        elif section == _EXPORTS:
            exports = dict(_export(reader) for _ in range(reader.number()))
        elif section == _CODE:
            sizes = [len(reader.bytes(reader.number())) for _ in range(reader.number())]
        starts = starts or section == _START
    return WasmFile(
        imports=tuple(imports),
        exports=exports,
        functions=len(sizes),
        longest_function=max(sizes, default=0),
        memories=memories + sum(kind == "memory" for _, _, kind in imports),
        starts=starts,
    )


def _sections(data: bytes) -> Iterator[tuple[int, _Reader]]:
    outer = _Reader(data, len(MAGIC), len(data))
    while not outer.is_done:
        section = outer.bytes(1)[0]
        size = outer.number()
        start = outer.at
        outer.bytes(size)
        yield section, _Reader(data, start, start + size)


def _import(reader: _Reader) -> tuple[str, str, str]:
    module, name, kind = reader.text(), reader.text(), reader.bytes(1)[0]
    if kind >= len(EXTERNAL):
        raise NotWasm(f"an import of an unknown kind before byte {reader.at}")
    if kind in (0, 4):  # a function by its type; a tag by its attribute and type
        for _ in range(1 + (kind == 4)):
            reader.number()
    elif kind == 1:
        reader.bytes(1)
        reader.limits()
    elif kind == 2:
        reader.limits()
    else:
        reader.bytes(2)
    return module, name, EXTERNAL[kind]


def _export(reader: _Reader) -> tuple[str, str]:
    name, kind = reader.text(), reader.bytes(1)[0]
    reader.number()
    if kind >= len(EXTERNAL):
        raise NotWasm(f"an export of an unknown kind before byte {reader.at}")
    return name, EXTERNAL[kind]
