"""The settings of gpu."""

from typing import Annotated

from msgspec import Meta, Struct


class GpuSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[gpu]` table of the configuration."""

    heartbeat_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    """How often miners are asked to send a heartbeat."""
    offline_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """After so long a silence a miner counts as offline, and no time of its booking is paid until it is back."""
    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """After this server was frozen, or just started: how long no miner's silence counts."""
    key_days: Annotated[int, Meta(ge=1, le=3650)] = 365
    """How long the API key of a miner lives; enrolling again gives a fresh one."""
    miners_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """How many miners one account may have."""
    tokens_max: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """How many enrolment tokens of one account may wait for their miners."""
    proof_size: Annotated[int, Meta(ge=16, le=65_536)] | None = None
    """How many rows and columns the matrices of a proof of hardware have, a power of two; unset: by the GPU's name."""
    own_url: Annotated[str, Meta(max_length=300, pattern=r"^https?://[^\s/]+\Z")] | None = None
    """The address of this very server, where several serve one installation behind one address: both ends of a
    connection to a booked machine must meet at one of them. For example `https://a.example.org`."""
    machine_wait_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """How long a connection to a booked machine waits for its other end."""
    machine_idle_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    """After so long without a byte either way a connection to a booked machine is closed."""
    machine_sessions_max: Annotated[int, Meta(ge=1, le=1000)] = 64
    """How many connections to one booked machine there may be at once; each forwarded connection is one."""
    older_patience_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    """A legacy miner sends nothing while it works: how long its leases are renewed without a heartbeat."""
