"""The kernel's tables of plugins: what is installed, what they keep, and what became of their calls."""

from datetime import date, datetime

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE
from aitbc.kernel.identity.tables import Base

STATES = ("active", "previous", "off", "revoked", "failed")


class InstalledPlugin(Struct, frozen=True, kw_only=True):
    """A version of a plugin that the operator installed: all that a process needs to load it, or to refuse."""

    plugin: str
    version: str
    digest: str
    public_key: str
    """Its publisher's, when it was installed."""
    signature: str
    manifest: str
    """Its canonical text."""
    artifact: bytes
    """The module; of a remote one nothing."""
    grants: tuple[str, ...]
    priority: int
    state: str
    """`active`, `previous`, `off`, `revoked` or `failed`."""
    reason: str
    """Why it is not active; empty for one that is."""
    changed_at: datetime


class ExtensionRow(Base):
    """A version of a plugin that was installed."""

    __tablename__ = "extensions"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        Index("extensions_active_idx", "plugin", unique=True, postgresql_where=text("state = 'active'")),
        {"info": NO_DELETE},
    )
    plugin: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(Text)
    manifest: Mapped[str] = mapped_column(Text)
    artifact: Mapped[bytes] = mapped_column(LargeBinary)
    grants: Mapped[list[str]] = mapped_column(ARRAY(Text))
    priority: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    def value(self) -> InstalledPlugin:
        """The row, as processes pass it on."""
        names = InstalledPlugin.__struct_fields__
        values = {name: getattr(self, name) for name in names}
        return InstalledPlugin(**{**values, "grants": tuple(self.grants)})


class ExtensionValueRow(Base):
    """A value that a plugin keeps."""

    __tablename__ = "extension_values"
    __table_args__ = ({"info": ALL},)
    plugin: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class ExtensionCallsRow(Base):
    """What became of the calls of a version on a day, over all processes."""

    __tablename__ = "extension_calls"
    __table_args__ = ({"info": NO_DELETE},)
    plugin: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(BigInteger)
