"""The tables of edges: who is one, what is deployed to which, and the receipts of what was done there."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.hermes.models.tables import Base

MOMENT = DateTime(timezone=True)


class EdgeRow(Base):
    """A miner that is an edge: it serves near those who ask, also while it is cut off."""

    __tablename__ = "edges"
    __table_args__ = (
        Index("edges_account_idx", "account", "location", postgresql_where=text("removed_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    location: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    """That of the miner: it signs receipts and signs of life with it."""
    address: Mapped[str | None] = mapped_column(Text)
    """Where it says that it answers."""
    memory_mib: Mapped[int | None] = mapped_column(BigInteger)
    disk_mib: Mapped[int | None] = mapped_column(BigInteger)
    """What of both its miner has shown; null where it has not."""
    reported_at: Mapped[datetime | None] = mapped_column(MOMENT)
    vouched_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """The newest sign of life that a neighbour brought."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class DeploymentRow(Base):
    """Something that edges are to serve, and how far that is."""

    __tablename__ = "deployments"
    __table_args__ = (
        CheckConstraint("state IN ('rolling', 'live', 'rolled_back', 'failed', 'ended')", name="state"),
        CheckConstraint("replicas >= 1 AND version >= 1 AND target >= 0 AND good >= 0", name="numbers"),
        Index("deployments_account_idx", "account", "id"),
        Index("deployments_open_idx", "id", postgresql_where=text("state NOT IN ('failed', 'ended')")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("dep"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    name: Mapped[str] = mapped_column(Text)
    locations: Mapped[str] = mapped_column(Text)
    """All that were asked for, as JSON text, those without an edge too."""
    replicas: Mapped[int] = mapped_column(Integer)
    """How many edges of each location serve it at most."""
    plan: Mapped[str] = mapped_column(Text)
    """How a version is rolled out, as JSON text."""
    coordination: Mapped[str] = mapped_column(Text)
    """How callers are spread over its edges, as JSON text."""
    turn: Mapped[int] = mapped_column(BigInteger)
    """How often an edge was chosen for a caller."""
    state: Mapped[str] = mapped_column(Text)
    problem: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    """The newest version that was declared."""
    target: Mapped[int] = mapped_column(Integer)
    """The version that its edges are to have; 0 for none."""
    good: Mapped[int] = mapped_column(Integer)
    """The newest version that went through its gate; 0 before one has."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class DeploymentVersionRow(Base):
    """What a version of a deployment serves; it never changes."""

    __tablename__ = "deployment_versions"
    __table_args__ = ({"info": APPEND_ONLY},)
    deployment: Mapped[str] = mapped_column(WireId("dep"), ForeignKey(DeploymentRow.id), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    """What it was made of and its steps, as JSON text."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class PlacementRow(Base):
    """A deployment at one edge: the version that it is to have, the one that it serves, and how far that is."""

    __tablename__ = "placements"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'preparing', 'ready', 'failed')", name="state"),
        CheckConstraint("wanted >= 0 AND serves >= 0", name="versions"),
        Index("placements_edge_idx", "edge", postgresql_where=text("wanted > 0 OR serves > 0")),
        {"info": NO_DELETE},
    )
    deployment: Mapped[str] = mapped_column(WireId("dep"), ForeignKey(DeploymentRow.id), primary_key=True)
    edge: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(EdgeRow.id), primary_key=True)
    location: Mapped[str] = mapped_column(Text)
    is_wanted: Mapped[bool] = mapped_column()
    """Whether it is to serve at all: not one that there are too many of."""
    wanted: Mapped[int] = mapped_column(Integer)
    """The version that it is told to have; 0 for none."""
    serves: Mapped[int] = mapped_column(Integer)
    """The version that it last said it serves; 0 for none."""
    state: Mapped[str] = mapped_column(Text)
    """How far the wanted version is there."""
    problem: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(MOMENT)
    """When wanted version or state last changed."""
    served: Mapped[int] = mapped_column(BigInteger)
    """From here on: what receipts say, those of all versions."""
    broken: Mapped[int] = mapped_column(BigInteger)
    cut_off: Mapped[int] = mapped_column(BigInteger)


class EdgeReceiptRow(Base):
    """A receipt of something that an edge has done, as the edge signed it; kept once."""

    __tablename__ = "edge_receipts"
    __table_args__ = (
        Index("edge_receipts_deployment_idx", "deployment", "edge", "journal", "sequence"),
        {"info": APPEND_ONLY},
    )
    edge: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(EdgeRow.id), primary_key=True)
    journal: Mapped[str] = mapped_column(Text, primary_key=True)
    """The book in which the edge counts: it begins another one when it has lost its own."""
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    deployment: Mapped[str] = mapped_column(WireId("dep"), ForeignKey(DeploymentRow.id))
    version: Mapped[int] = mapped_column(Integer)
    statement: Mapped[str] = mapped_column(Text)
    """The signed bytes."""
    signature: Mapped[str] = mapped_column(Text)
    succeeded: Mapped[bool] = mapped_column()
    cut_off: Mapped[bool] = mapped_column()
    milliseconds: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[datetime] = mapped_column(MOMENT)
    """By the edge's own clock."""
    received_at: Mapped[datetime] = mapped_column(MOMENT)
