"""The first process of a machine: it holds the container open until its standard input ends, and no longer.

That input is a pipe of the miner's daemon. However the daemon ends, the kernel closes it, and the container is gone.
"""

import struct

from aitbc_cli.miner.containers.canary import executable

PATH = "/aitbc-hold"


def program() -> bytes:
    """The executable file. Raises `LookupError` on a processor without one."""
    return executable({"x86_64": _x86_64(), "aarch64": _aarch64()})


def _x86_64() -> bytes:
    """sigaction(SIGCHLD, SIG_IGN), so that no dead child stays; then read(0) until there is nothing more, and exit"""
    ignore = bytes.fromhex("4883ec40 48c7042401000000 48c744240800000000 48c744241000000000 48c744241800000000")
    ignore += bytes.fromhex("b80d000000 bf11000000 4889e6 31d2 41ba08000000 0f05")
    read = bytes.fromhex("31c0 31ff 4889e6 ba20000000 0f05 83f8fc 74ed 85c0 7fe9")
    return ignore + read + bytes.fromhex("b8e7000000 31ff 0f05")


def _aarch64() -> bytes:
    """The same."""
    ignore: tuple[int, ...] = (
        0xD10103FF,
        0xD2800020,
        0xF90003E0,
        0xF90007FF,
        0xF9000BFF,
        0xF9000FFF,
        0xD2800220,
        0x910003E1,
    )
    ignore += (0xD2800002, 0xD2800103, 0xD28010C8, 0xD4000001)
    read = (0xD2800000, 0x910003E1, 0xD2800402, 0xD28007E8, 0xD4000001, 0xB100101F, 0x54FFFF40, 0xF100001F, 0x54FFFF0C)
    words = (*ignore, *read, 0xD2800000, 0xD2800BC8, 0xD4000001)
    return struct.pack(f"<{len(words)}I", *words)
