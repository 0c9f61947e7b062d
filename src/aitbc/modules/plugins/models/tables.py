"""The tables of plugins."""

from datetime import date, datetime

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column

from aitbc.kernel.database.standard_tables import ALL, APPEND_ONLY, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import money
from aitbc.modules.plugins.api import VERSION_STATES, Plugin
from aitbc.modules.plugins.models.life import LICENCE_STATES, LIVE

MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The tables of plugins, with the four that every module has."""

    metadata = module_metadata("plugins")


class NamespaceRow(Base):
    """A namespace, and the key that its owner signs with."""

    __tablename__ = "namespaces"
    __table_args__ = (Index("namespaces_account_idx", "account", "name"), {"info": NO_DELETE})
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    public_key: Mapped[str | None] = mapped_column(Text)
    """None until its owner sets one: nothing can be published before."""
    verified: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class PluginRow(Base):
    """A plugin, as its latest version describes it."""

    __tablename__ = "plugins"
    __table_args__ = (
        CheckConstraint("state IN ('listed', 'revoked')", name="state"),
        CheckConstraint("price_units >= 0 AND trial_days >= 0", name="terms"),
        CheckConstraint(
            "downloads >= 0 AND ratings >= 0 AND rating_sum BETWEEN ratings AND 5 * ratings", name="counts"
        ),
        Index("plugins_listed_idx", "id", postgresql_where=text("state = 'listed' AND latest IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    namespace: Mapped[str] = mapped_column(Text, ForeignKey(NamespaceRow.name))
    account: Mapped[str] = mapped_column(WireId("acct"))
    kind: Mapped[str] = mapped_column(Text)
    summary: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    license: Mapped[str] = mapped_column(Text)
    latest: Mapped[str | None] = mapped_column(Text)
    latest_number: Mapped[int] = mapped_column(BigInteger)
    """The latest version as a number; 0 while none has passed."""
    price_units: Mapped[int] = mapped_column(BigInteger)
    trial_days: Mapped[int] = mapped_column(Integer)
    verified: Mapped[bool] = mapped_column(Boolean)
    deprecated: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(Text)
    downloads: Mapped[int] = mapped_column(BigInteger)
    ratings: Mapped[int] = mapped_column(Integer)
    rating_sum: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    released_at: Mapped[datetime | None] = mapped_column(MOMENT)

    def view(self) -> Plugin:
        """The plugin, as the API shows it."""
        return Plugin(
            id=self.id,
            account=self.account,
            kind=self.kind,
            summary=self.summary,
            description=self.description,
            category=self.category,
            tags=tuple(self.tags),
            license=self.license,
            latest=self.latest,
            price=money.render(self.price_units),
            trial_days=self.trial_days,
            verified=self.verified,
            deprecated=self.deprecated,
            state=self.state,
            downloads=self.downloads,
            ratings=self.ratings,
            rating=round(self.rating_sum / self.ratings, 2) if self.ratings else None,
            created_at=self.created_at,
            released_at=self.released_at,
        )


class VersionRow(Base):
    """A version that was handed in: what was signed never changes, what became of it does."""

    __tablename__ = "versions"
    __table_args__ = (
        CheckConstraint(f"state IN {VERSION_STATES}", name="state"),
        Index("versions_plugin_idx", "plugin", "number", unique=True),
        Index("versions_account_idx", "account", "id"),
        Index(
            "versions_waiting_idx",
            "id",
            postgresql_where=text("state IN ('received', 'validating', 'scanning', 'errored')"),
        ),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("pver"), primary_key=True)
    plugin: Mapped[str] = mapped_column(Text, ForeignKey(PluginRow.id))
    version: Mapped[str] = mapped_column(Text)
    number: Mapped[int] = mapped_column(BigInteger)
    """The version as a number that sorts."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    digest: Mapped[str] = mapped_column(Text)
    artifact_digest: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(Text)
    manifest: Mapped[str] = mapped_column(Text)
    artifact: Mapped[bytes] = deferred(mapped_column(LargeBinary))
    size: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    """Why an operator or its publisher took it back; empty otherwise."""
    findings: Mapped[str] = mapped_column(Text)
    """What the rules found, as JSON text."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class ReviewRow(Base):
    """What an account thinks of a plugin."""

    __tablename__ = "reviews"
    __table_args__ = (CheckConstraint("rating BETWEEN 1 AND 5", name="rating"), {"info": NO_DELETE})
    plugin: Mapped[str] = mapped_column(Text, ForeignKey(PluginRow.id), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    rating: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class UserRow(Base):
    """An account that fetched, bought, tried or installed a plugin: it may review it."""

    __tablename__ = "users"
    __table_args__ = ({"info": APPEND_ONLY},)
    plugin: Mapped[str] = mapped_column(Text, ForeignKey(PluginRow.id), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)


class LicenceRow(Base):
    """A licence that was bought, or a trial."""

    __tablename__ = "licences"
    __table_args__ = (
        CheckConstraint(f"state IN {LICENCE_STATES}", name="state"),
        CheckConstraint("(state = 'trial') = (until IS NOT NULL)", name="until"),
        CheckConstraint("price_units >= 0", name="price"),
        Index(
            "licences_live_idx",
            "plugin",
            "account",
            unique=True,
            postgresql_where=text(f"state IN {LIVE}"),
        ),
        Index("licences_trial_idx", "plugin", "account", unique=True, postgresql_where=text("state = 'trial'")),
        Index("licences_account_idx", "account", "id"),
        Index(
            "licences_open_idx",
            "created_at",
            "id",
            postgresql_where=text("state IN ('placed', 'held', 'refunding', 'paying')"),
        ),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("plic"), primary_key=True)
    plugin: Mapped[str] = mapped_column(Text, ForeignKey(PluginRow.id))
    account: Mapped[str] = mapped_column(WireId("acct"))
    publisher: Mapped[str] = mapped_column(WireId("acct"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime | None] = mapped_column(MOMENT)
    """When a trial ends."""
    transaction: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class InstallRow(Base):
    """A plugin that the operator has installed here."""

    __tablename__ = "installs"
    __table_args__ = ({"info": ALL},)
    plugin: Mapped[str] = mapped_column(Text, ForeignKey(PluginRow.id), primary_key=True)
    version: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Whose licence it stands on."""
    override: Mapped[bool] = mapped_column(Boolean)
    """Whether the operator wants it although it was revoked."""
    installed_at: Mapped[datetime] = mapped_column(MOMENT)


class PluginRuling(Struct, frozen=True, kw_only=True):
    """What governance decided about a plugin last."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    allowed: bool
    """Whether it may run here. For example `false`."""
    proposal: str
    """The proposal that decided it. For example `prop_01k0000000000000000000000a`."""
    ruled_at: datetime
    """When that was executed."""


class RulingRow(Base):
    """What governance decided about a plugin last, also about one that was never published."""

    __tablename__ = "rulings"
    __table_args__ = ({"info": NO_DELETE},)
    plugin: Mapped[str] = mapped_column(Text, primary_key=True)
    allowed: Mapped[bool] = mapped_column(Boolean)
    proposal: Mapped[str] = mapped_column(Text)
    ruled_at: Mapped[datetime] = mapped_column(MOMENT)

    def view(self) -> PluginRuling:
        """The ruling, as the API shows it."""
        return PluginRuling(plugin=self.plugin, allowed=self.allowed, proposal=self.proposal, ruled_at=self.ruled_at)


class FetchRow(Base):
    """That an account fetched a version on a day, without saying which account: a keyed digest, kept for two days."""

    __tablename__ = "fetches"
    __table_args__ = (Index("fetches_day_idx", "day"), {"info": ALL})
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    day: Mapped[date] = mapped_column(Date)


class FigureRow(Base):
    """How often something happened to a version on a day."""

    __tablename__ = "figures"
    __table_args__ = ({"info": NO_DELETE},)
    plugin: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
