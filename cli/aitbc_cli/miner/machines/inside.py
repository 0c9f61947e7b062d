"""Connections to ports inside of a container, made by a process that enters its network alone and hands them back.

This file is also that process's program, so it imports the standard library only.
"""

import asyncio
import ctypes
import os
import socket
import sys
from pathlib import Path

CONNECT_SECONDS = 10.0
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000


class NotReached(Exception):
    """Nothing inside answers at that port; the message says why."""


async def connect(process: int, port: int) -> socket.socket:
    """A connection to a port on the loopback of the container of this process. Raises `NotReached`."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        words = (sys.executable, "-I", "-S", __file__, str(process), str(port), str(theirs.fileno()))
        pipe = asyncio.subprocess.PIPE
        entering = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stderr=pipe, pass_fds=(theirs.fileno(),)
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS * 2):
                _, said = await entering.communicate()
        except BaseException as error:
            if entering.returncode is None:
                entering.kill()
                await entering.wait()
            if isinstance(error, TimeoutError):
                raise NotReached(f"port {port} did not answer in time") from None
            raise
        if entering.returncode != 0:
            raise NotReached(said.decode("utf-8", "replace").strip()[-300:] or f"port {port} cannot be reached")
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
    reached = socket.socket(fileno=descriptors[0])
    reached.setblocking(False)
    return reached


def _enter(process: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    spaces = (("net", _NEW_NET),) if os.getuid() == 0 else (("user", _NEW_USER), ("net", _NEW_NET))
    for name, kind in spaces:
        with Path(f"/proc/{process}/ns/{name}").open("rb") as space:
            if libc.setns(space.fileno(), kind) != 0:
                raise OSError(ctypes.get_errno(), f"its {name} namespace: {os.strerror(ctypes.get_errno())}")


def main(process: int, port: int, channel: int) -> int:
    """Enter, connect, hand the connection back; gives the exit code."""
    try:
        _enter(process)
    except OSError as error:
        sys.stderr.write(f"the miner may not enter the machine's network ({error})\n")
        return 1
    why = ""
    for family, address in LOOPBACK:
        try:
            found = socket.socket(family, socket.SOCK_STREAM)
            found.settimeout(CONNECT_SECONDS / 2)
            found.connect((address, port))
        except OSError as error:
            why = why or str(error.strerror or error)
            continue
        with socket.socket(fileno=channel) as back:
            socket.send_fds(back, [b"ok"], [found.fileno()])
        return 0
    sys.stderr.write(f"nothing answers at port {port} of the machine ({why})\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
