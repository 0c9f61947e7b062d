"""The tables of webhooks, endpoints and deliveries, and the structs that the API shows of them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Struct
from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, LargeBinary, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.identity.tables import AccountRow, Base
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.secret import masked


class State(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Endpoint(Struct, frozen=True, kw_only=True):
    """A URL to which an account's events are sent, without its secret."""

    id: str
    """The endpoint. For example `hook_01k0000000000000000000000a`."""
    account: str
    """Whose events it gets. For example `acct_01k0000000000000000000000a`."""
    url: str
    """Where they are sent. For example `https://hooks.example.org/aitbc`."""
    events: tuple[str, ...]
    """The types that are sent to it; empty for all of them, those of the future too."""
    description: str
    """What it is for, in its owner's words; may be empty. For example `billing`."""
    enabled: bool
    """Whether events are sent. For example `true`."""
    disabled_reason: Annotated[str, one_of(("owner", "gone", "failing", "overrun"))] | None
    """`owner`, `gone` (it answered 410), `failing` (it failed for days) or `overrun` (too many were pending)."""
    failing_since: datetime | None
    """When it first failed since its last success."""
    previous_secret_until: datetime | None
    """Until then messages carry a signature of the secret before this one too."""
    created_at: datetime
    """When it was made."""


class IssuedEndpoint(Endpoint, frozen=True, kw_only=True):
    """An endpoint with its secret, which is shown this one time."""

    secret: str
    """The secret that messages are signed with. For example `whsec_…`."""

    def __repr__(self) -> str:
        return masked(self, "secret")


class Delivery(Struct, frozen=True, kw_only=True):
    """The delivery of one event to one endpoint."""

    id: str
    """The `webhook-id` of every attempt. For example `dlv_01k0000000000000000000000a`."""
    endpoint: str
    """The endpoint. For example `hook_01k0000000000000000000000a`."""
    account: str
    """Whose event it is. For example `acct_01k0000000000000000000000a`."""
    type: str
    """What happened. For example `ai.job_closed`."""
    state: Annotated[str, one_of(("pending", "delivered", "dead"))]
    """`pending`, `delivered` or `dead`."""
    attempts: int
    """How often it was tried. For example `1`."""
    status: int | None
    """What the last attempt was answered with; none when no answer came."""
    error: str | None
    """What was wrong with the last attempt. For example `HTTP 503`."""
    created_at: datetime
    """When the event was published."""
    attempted_at: datetime | None
    """When it was last tried; null before."""
    next_attempt_at: datetime | None
    """None once it is delivered or dead."""
    ended_at: datetime | None
    """When it was delivered or given up; null before."""
    body: str
    """What is sent, to the letter. For example `{"type": "ai.job_closed"}`."""
    trace_id: str | None
    """The trace of the request that it came of, to which every attempt belongs; null where it came of none. For example
    `0af7651916cd43dd8448eb211c80319c`."""


class EndpointRow(Base):
    """An endpoint.

    Its secrets are sealed: the server must sign with them again, and nobody is to read them in a dump.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(WireId("hook"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), ForeignKey(AccountRow.id))
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(Integer, default=1)
    """Incremented with every change by its owner: outcomes of older versions are ignored."""
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("webhook_endpoints_account_idx", account, id), {"info": ALL})  # noqa: A003

    def view(self) -> Endpoint:
        """As its owner sees it."""
        return Endpoint(
            id=self.id,
            account=self.account,
            url=self.url,
            events=tuple(self.events),
            description=self.description,
            enabled=self.disabled_at is None,
            disabled_reason=self.disabled_reason,
            failing_since=self.failing_since,
            previous_secret_until=self.previous_until,
            created_at=self.created_at,
        )


_PENDING = text("state = 'pending'")


class DeliveryRow(Base):
    """The table of deliveries. Event and endpoint are a unique key, so that an event that comes twice is sent once."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(WireId("dlv"), primary_key=True)
    endpoint: Mapped[str] = mapped_column(WireId("hook"), ForeignKey(EndpointRow.id, ondelete="CASCADE"))
    account: Mapped[str] = mapped_column(WireId("acct"))
    event: Mapped[UUID | None] = mapped_column(Uuid)
    """None for a test message."""
    type: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    due_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    attempted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(Text)
    trace_id: Mapped[str | None] = mapped_column(Text)
    """The trace of the request that published the event; none where no request did."""

    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state"),
        CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="ended"),
        Index("webhook_deliveries_event_key", endpoint, event, unique=True),
        Index("webhook_deliveries_endpoint_idx", endpoint, id),  # noqa: A003
        Index("webhook_deliveries_account_idx", account, id),  # noqa: A003
        Index("webhook_deliveries_due_idx", endpoint, due_at, postgresql_where=_PENDING),
        Index("webhook_deliveries_dead_idx", account, id, postgresql_where=text("state = 'dead'")),  # noqa: A003
        Index("webhook_deliveries_ended_idx", ended_at, postgresql_where=text("ended_at IS NOT NULL")),
        {"info": ALL},
    )

    def view(self) -> Delivery:
        """As its owner sees it."""
        return Delivery(
            id=self.id,
            endpoint=self.endpoint,
            account=self.account,
            type=self.type,
            state=self.state,
            attempts=self.attempts,
            status=self.status,
            error=self.error,
            created_at=self.created_at,
            attempted_at=self.attempted_at,
            next_attempt_at=self.due_at if self.state == State.PENDING else None,
            ended_at=self.ended_at,
            body=self.body,
            trace_id=self.trace_id,
        )
