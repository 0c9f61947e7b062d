"""The life of a miner: which status may follow which, and what decides.

    enrolled ──► online ◄──► draining
                   ▲ ╲         ▲ │
                   │  ╲        │ ▼      (a miner that drains stays so, however often it stops and starts)
                   └───╲────► offline
    every one ──► removed

A miner is alive while it sends heartbeats. Alive, it is `draining` when its owner, the platform or the miner itself
says so, else `online`.
"""

from enum import StrEnum
from typing import Protocol


class Status(StrEnum):
    """Where a miner is."""

    ENROLLED = "enrolled"
    """Known, and without a heartbeat since."""
    ONLINE = "online"
    DRAINING = "draining"
    """Alive, but takes no new work."""
    OFFLINE = "offline"
    """Without a heartbeat for `offline_seconds`, or it said that it is leaving."""
    REMOVED = "removed"
    """Ended for good; its history stays."""


ALLOWED: dict[Status, frozenset[Status]] = {
    Status.ENROLLED: frozenset({Status.ONLINE, Status.DRAINING, Status.OFFLINE, Status.REMOVED}),
    Status.ONLINE: frozenset({Status.DRAINING, Status.OFFLINE, Status.REMOVED}),
    Status.DRAINING: frozenset({Status.ONLINE, Status.OFFLINE, Status.REMOVED}),
    Status.OFFLINE: frozenset({Status.ONLINE, Status.DRAINING, Status.REMOVED}),
    Status.REMOVED: frozenset(),
}
ALIVE = frozenset({Status.ONLINE, Status.DRAINING})
LEFT = "the miner was stopped"
SILENT = "nothing was heard of the miner"


class MinerFields(Protocol):
    """What the rules read and write of a miner."""

    status: str
    status_reason: str | None
    drain_message: str | None
    pause_reason: str | None
    blocked_reason: str | None
    slots: int
    version: int


def live_status(miner: MinerFields) -> tuple[Status, str | None]:
    """The status of a miner that is alive, and why."""
    if miner.drain_message is not None:
        return Status.DRAINING, miner.drain_message
    if miner.blocked_reason is not None:
        return Status.DRAINING, miner.blocked_reason
    if miner.pause_reason is not None:
        return Status.DRAINING, miner.pause_reason
    return Status.ONLINE, None


def move(miner: MinerFields, status: Status, reason: str | None) -> bool:
    """Bring a miner into a status; returns whether anything changed. A step outside `ALLOWED` is a bug."""
    if (miner.status, miner.status_reason) == (status, reason):
        return False
    assert miner.status == status or status in ALLOWED[Status(miner.status)], f"{miner.status} to {status}"
    miner.status, miner.status_reason = status, reason
    miner.version += 1
    return True


def apply_heartbeat(miner: MinerFields, *, slots: int, pause: str | None, leaving: bool) -> bool:
    """Apply a heartbeat, with the slots the miner has; whether that changed anything others must know.

    `pause` is why the miner itself takes no work now, `leaving` that it stops. A miner that was removed stays so.
    """
    if miner.status == Status.REMOVED:
        return False
    miner.pause_reason = pause
    resized = miner.slots != slots
    miner.slots = slots
    moved = move(miner, Status.OFFLINE, LEFT) if leaving else move(miner, *live_status(miner))
    if resized and not moved:
        miner.version += 1
    return moved or resized


def takes_work(status: str, reason: str | None) -> bool:
    """Whether a miner takes work for as long as its last heartbeat stands for; one that is merely silent does."""
    return status == Status.ONLINE or (status, reason) == (Status.OFFLINE, SILENT)


def silence(miner: MinerFields) -> bool:
    """Apply a silence that was too long. Whether that changed anything."""
    return miner.status in ALIVE and move(miner, Status.OFFLINE, SILENT)


def drain(miner: MinerFields, message: str | None) -> bool:
    """Ask a miner to take no more work, or with none that it may again. Whether that changed anything."""
    if miner.drain_message == message:
        return False
    miner.drain_message = message
    if miner.status in ALIVE:
        return move(miner, *live_status(miner))
    miner.version += 1  # it shows with the next heartbeat
    return True


def remove(miner: MinerFields, reason: str) -> bool:
    """End a miner for good. Whether that changed anything."""
    return miner.status != Status.REMOVED and move(miner, Status.REMOVED, reason)
