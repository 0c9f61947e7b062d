"""Machines: what a booker has of a booked miner as a machine of their own, and the sessions by which it is reached.

waiting ──► open ──► ended
   └───────────────► ended      nobody came, or the booking ended
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import CheckConstraint, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.gpu.models.bookings import MILLISECOND, BookingRow
from aitbc.modules.gpu.models.tables import MOMENT, Base

ARGUMENTS_MAX = 64
HEARD_MAX = timedelta(seconds=60)
"""The longest time that one word of a miner stands for: what its machine ran beyond is not counted."""
Argument = Annotated[
    str, Meta(max_length=4096, pattern=r"^[^\x00]*\Z"), Meta(extra_json_schema={"examples": ["nvidia-smi"]})
]
MachinePath = Annotated[
    str,
    Meta(min_length=1, max_length=1000, pattern=r"^[^\x00]*\Z"),
    Meta(extra_json_schema={"examples": ["/disk/data"]}),
]
ImageName = Annotated[
    str,
    Meta(max_length=300, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*\Z"),
    Meta(extra_json_schema={"examples": ["python"]}),
]
Purpose = Literal["shell", "put", "get", "port"]
PurposeName = Annotated[str, one_of(("shell", "put", "get", "port"))]


class SessionState(StrEnum):
    """Where a session is in its life."""

    WAITING = "waiting"
    OPEN = "open"
    ENDED = "ended"


class MachineSessionRow(Base):
    """One connection between a booker and the machine that they booked."""

    __tablename__ = "machine_sessions"
    id: Mapped[str] = mapped_column(WireId("mses"), primary_key=True)
    booking: Mapped[str] = mapped_column(WireId("book"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    account: Mapped[str] = mapped_column(WireId("acct"))
    wanted: Mapped[str] = mapped_column(Text)
    """What it is for, as JSON."""
    state: Mapped[str] = mapped_column(Text)
    place: Mapped[str | None] = mapped_column(Text)
    """The process at which its ends meet; none before the first of them came."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    heard_at: Mapped[datetime] = mapped_column(MOMENT)
    """When the process of its ends last said that it goes on."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    reason: Mapped[str | None] = mapped_column(Text)
    """How it ended."""

    __table_args__ = (
        CheckConstraint(f"state IN {tuple(state.value for state in SessionState)}", name="state"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        Index("machine_sessions_open_idx", "miner", "id", postgresql_where=text("state <> 'ended'")),
        Index("machine_sessions_booking_idx", "booking", postgresql_where=text("state <> 'ended'")),
        Index("machine_sessions_ended_at_idx", "ended_at", postgresql_where=text("state = 'ended'")),
    )


class TerminalSize(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large a terminal is."""

    rows: Annotated[int, Meta(ge=1, le=4096)] = 24
    """Its lines. For example `24`."""
    columns: Annotated[int, Meta(ge=1, le=4096)] = 80
    """The characters of a line. For example `80`."""


class OpenMachineSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a booker wants of the machine."""

    purpose: Annotated[Purpose, Meta(extra_json_schema={"examples": ["shell"]})]
    """`shell` runs a command, `put` unpacks a tar archive, `get` packs one, `port` reaches a port inside."""
    command: Annotated[tuple[Argument, ...], Meta(max_length=ARGUMENTS_MAX)] = ()
    """For `shell`: the program and its arguments; empty for a shell to type in. For example `["nvidia-smi"]`."""
    terminal: TerminalSize | None = None
    """For `shell`: have a terminal of this size; left out, plain input and output."""
    path: MachinePath | None = None
    """For `put`: the folder that the archive is unpacked into; for `get`: what is packed. For example `/disk/data`."""
    port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """For `port`: the port, on the machine's own loopback. For example `8888`."""
    image: ImageName | None = None
    """The image that the machine starts from, by a name that the miner tells; left out, its first. For example
    `python`."""
    network: bool = False
    """Start the machine with a network, where the miner gives one."""


class MachineSession(Struct, frozen=True, kw_only=True):
    """A connection that waits for both of its ends."""

    id: str
    """The session. For example `mses_01k0000000000000000000000a`."""
    booking: str
    """The booking whose machine it reaches. For example `book_01k0000000000000000000000a`."""
    miner: str
    """The miner that has the machine. For example `mnr_01k0000000000000000000000a`."""
    purpose: PurposeName
    """What it is for. For example `shell`."""
    path: str
    """Where its WebSocket is opened, with the same key.
    For example `/api/v1/gpu/sessions/mses_01k0000000000000000000000a/client`."""
    url: str | None
    """The server that it is to be opened at, where one of several must be met; null for the one that was asked.
    For example `https://a.example.org`."""
    expires_at: datetime
    """Until when both ends must have come."""


class MachineView(Struct, frozen=True, kw_only=True):
    """What a booking gives of a machine."""

    booking: str
    """The booking. For example `book_01k0000000000000000000000a`."""
    offered: bool
    """Whether its miner gives a machine. For example `true`."""
    reason: str | None
    """Why it gives none; null where it does. For example `neither podman nor docker is installed`."""
    images: tuple[str, ...]
    """The images that it can start from. For example `["python"]`."""
    network: bool
    """Whether it can have a network."""
    usable: bool
    """Whether sessions can be opened now: its time is paid, and its miner is there. For example `true`."""
    running: bool
    """Whether it runs, as its miner said within the last minute. For example `true`."""
    used_seconds: float
    """For how long it ran so far. For example `125.5`."""
    sessions: int
    """How many connections to it are open or wait. For example `1`."""


def count_machine(row: BookingRow, at: datetime, *, runs: bool) -> None:
    """Count the time of a booking's machine since its miner last said that it runs, a minute at most."""
    if row.machine_seen_at is not None:
        row.machine_ms += max(timedelta(), min(at - row.machine_seen_at, HEARD_MAX)) // MILLISECOND
    row.machine_seen_at = at if runs else None
