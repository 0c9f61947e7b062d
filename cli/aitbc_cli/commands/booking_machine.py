"""The machine of a booking: a shell on it, files in and out, forwarded ports."""

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command
from aitbc_cli.exits import NOT_FOUND, REFUSED, usage
from aitbc_cli.id_completion import BOOKINGS
from aitbc_cli.output import columns

Which = Annotated[str, typer.Argument(metavar="BOOKING", help="Its id, book_…", autocompletion=BOOKINGS)]
Either = Annotated[
    str, typer.Argument(metavar="BOOKING", help="Its id, book_…, or that of a miner, mnr_…", autocompletion=BOOKINGS)
]
OFFER = columns("available", "reason", "images", "network")
Image = Annotated[str | None, typer.Option("--image", metavar="NAME", help="Start it from this image of the miner's.")]
Network = Annotated[bool, typer.Option("--network", help="Start it with a network, where the miner gives one.")]
MACHINE = columns("booking", "offered", "reason", "images", "network", "usable", "running", "used_seconds", "sessions")
_FORWARD = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})\Z")
_THERE = re.compile(r"(book_[^:/]+):(.*)\Z", re.DOTALL)


def declare_machine(app: typer.Typer) -> None:
    """Add `machine`, `shell` and `cp` to the commands of the noun."""
    command(
        app, "machine", examples=["aitbc booking machine book_01…", "aitbc booking machine mnr_01…"], ends=[NOT_FOUND]
    )(machine)
    command(
        app,
        "shell",
        examples=[
            "aitbc booking shell book_01…",
            "aitbc booking shell book_01… -- nvidia-smi",
            "aitbc booking shell book_01… --forward 8888",
            "aitbc booking shell book_01… --forward 8000:80 --no-shell",
        ],
        ends=[NOT_FOUND, REFUSED],
    )(shell)
    command(
        app,
        "cp",
        examples=[
            "aitbc booking cp book_01…:/disk/model.bin .",
            "aitbc booking cp data.csv book_01…:/disk/",
        ],
        ends=[NOT_FOUND, REFUSED],
    )(cp)


def machine(call: Call, booking: Either) -> None:
    """Show what a booking gives of a machine, or what a miner would: whether, from which images, and why not."""
    if booking.startswith("mnr_"):
        call.out.one(call.api.get(f"/api/v1/gpu/miners/{part(booking)}/machine"), OFFER, name="available")
        return
    call.out.one(call.api.get(f"/api/v1/gpu/bookings/{part(booking)}/machine"), MACHINE, name="booking")


def shell(
    call: Call,
    booking: Which,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="What to run instead of a shell.")
    ] = None,
    forward: Annotated[
        list[str] | None,
        typer.Option(
            "--forward", metavar="[LOCAL:]PORT", help="Lead a port of this machine to one of the other; again for more."
        ),
    ] = None,
    no_shell: Annotated[bool, typer.Option("--no-shell", help="Only forward ports, until Ctrl-C.")] = False,
    image: Image = None,
    network: Network = False,
) -> int:
    """Open a shell on the machine that you have booked, or run a command there; its exit code is this one's.

    The machine is a container on the miner, with its GPUs. What is in /disk stays until the booking ends, then all of
    it is wiped. A line that is cut ends what it ran; what shall go on is started with nohup or in tmux.
    """
    ports = [_ports(one) for one in forward or ()]
    if no_shell and (words or not ports):
        raise usage("--no-shell is for --forward alone")
    from aitbc_cli import machine_shell
    from aitbc_cli.machines import Lines

    lines = Lines(call, booking, image=image, network=network)
    return int(_done(machine_shell.run(lines, words or [], ports=ports, has_shell=not no_shell)))


def cp(
    call: Call,
    source: Annotated[str, typer.Argument(help="What to copy: a path here, or BOOKING:PATH.")],
    target: Annotated[
        str, typer.Argument(help="Where to: BOOKING:PATH, or a path here. PATH/ is a folder to copy into.")
    ],
    image: Image = None,
) -> None:
    """Copy a file or a folder to a machine that you have booked, or back. Paths there that are not absolute are below
    /disk.
    """
    there = _THERE.match(source), _THERE.match(target)
    if (there[0] is None) == (there[1] is None):
        raise usage("one of the two is on the machine", hint="aitbc booking cp data.csv book_01…:/disk/")
    from aitbc_cli import machine_copy
    from aitbc_cli.machines import Lines

    if there[1] is not None:
        path = Path(source)
        if not path.exists():
            raise usage(f"{source} is not there")
        lines = Lines(call, there[1][1], image=image)
        _done(machine_copy.put(lines, path, there[1][2]))
    elif there[0] is not None:
        _done(machine_copy.get(Lines(call, there[0][1], image=image), there[0][2], Path(target)))
    call.out.one({"source": source, "target": target}, columns("source", "target"), name="target")


def _ports(text: str) -> tuple[int, int]:
    """The local port and the one it leads to. Raises a usage error."""
    found = _FORWARD.match(text)
    remote = int(found[2]) if found else 0
    local = int(found[1]) if found and found[1] else remote
    if not 0 < remote < 65536 or not 0 <= local < 65536:
        raise usage(f"--forward {text!r} names no port", hint="--forward 8888, or --forward 8000:80")
    return local, remote


def _done(work: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    return asyncio.run(work)
