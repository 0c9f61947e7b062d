"""The kernel's tables of accounts and API keys, and how the API shows their rows."""

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import Boolean, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.identity.principal import KeyKind
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.secret import masked
from aitbc.kernel.primitives.text import case_folded

SESSION_IDLE = timedelta(hours=12)
"""A browser's session that was not used for so long is over."""


class Account(Struct, frozen=True, kw_only=True):
    """An owner of money, jobs, miners and keys."""

    id: str
    """The account. For example `acct_01k0000000000000000000000a`."""
    name: str
    """What its operator calls it; unique. For example `alice`."""
    created_at: datetime
    """When it was made."""


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key, without its secret."""

    id: str
    """The key's id, which is no secret. For example `key_01k0000000000000000000000a`."""
    account: str
    """Whom it speaks for. For example `acct_01k0000000000000000000000a`."""
    kind: KeyKind
    """`live` and `test` for people and programs, `admin` for operators, `miner` for one miner."""
    name: str
    """What its owner calls it. For example `laptop`."""
    prefix: str
    """The beginning of its secret, by which to recognize it. For example `aitbc_live_k3v9`."""
    scopes: tuple[str, ...]
    """What it may do; `*` is everything. For example `["jobs:create", "jobs:read"]`."""
    subject: str | None
    """The miner that it belongs to; null for keys of people and programs. For example
    `mnr_01k0000000000000000000000a`."""
    created_at: datetime
    """When it was made."""
    expires_at: datetime
    """When it ends by itself."""
    revoked_at: datetime | None
    """When it was ended; null while it was not."""


class IssuedKey(ApiKey, frozen=True, kw_only=True):
    """A key with its secret, which is shown this one time."""

    secret: str
    """The secret, to be sent as `Authorization: Bearer …`. For example `aitbc_live_…`."""

    def __repr__(self) -> str:
        return masked(self, "secret")


class Session(Struct, frozen=True, kw_only=True):
    """A browser that is signed in: it acts as the key it was opened with, and ends with it."""

    id: str
    """The session. For example `sess_01k0000000000000000000000a`."""
    key: str
    """The key that it acts as. For example `key_01k0000000000000000000000a`."""
    client: str
    """The browser, as it names itself; not to be relied on. For example `Mozilla/5.0 (X11; Linux x86_64)`."""
    created_at: datetime
    """When it was opened."""
    seen_at: datetime
    """When it was last used, to the minute."""
    expires_at: datetime
    """When it ends at the latest, used or not."""


class SignInLink(Struct, frozen=True, kw_only=True):
    """A code that opens one browser session, once, within minutes."""

    code: str
    """To be typed or followed; it stands behind the `#` of the link, which no server sees.
    For example `aitbc_link_…`."""
    path: str
    """Where to take it, on the address of this server. For example `/sign-in#aitbc_link_…`."""
    expires_at: datetime
    """Until when it can be used."""

    def __repr__(self) -> str:
        return masked(self, "code", "path")


class Base(DeclarativeBase):
    """The kernel's own tables."""

    metadata = module_metadata("kernel")


class AccountRow(Base):
    """An account."""

    __tablename__ = "accounts"
    __table_args__ = ({"info": NO_DELETE},)

    id: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    folded: Mapped[str] = mapped_column(Text, unique=True)
    """The name as `case_folded` returns it: two accounts must differ in more than letter case, width or ligatures."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    @classmethod
    def create(cls, name: str) -> "AccountRow":
        """A new account."""
        return cls(id=new_id("acct"), name=name, folded=case_folded(name), created_at=now())

    def view(self) -> Account:
        """The account, as the API shows it."""
        return Account(id=self.id, name=self.name, created_at=self.created_at)


class KeyRow(Base):
    """An API key: the digest of its secret, and its scopes."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(WireId("key"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), ForeignKey(AccountRow.id))
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    subject: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    rotated: Mapped[bool] = mapped_column(Boolean, default=False)

    __table_args__ = (Index("keys_account_idx", account, id), Index("keys_subject_idx", subject), {"info": NO_DELETE})  # noqa: A003

    def valid_at(self, at: datetime) -> bool:
        """Whether the key is valid at this time."""
        return self.expires_at > at and (self.revoked_at is None or self.revoked_at > at)

    def view(self) -> ApiKey:
        """The key without its secret, as the API shows it."""
        return ApiKey(
            id=self.id,
            account=self.account,
            kind=self.kind,
            name=self.name,
            prefix=self.prefix,
            scopes=tuple(self.scopes),
            subject=self.subject,
            created_at=self.created_at,
            expires_at=self.expires_at,
            revoked_at=self.revoked_at,
        )

    def issued(self, secret: str) -> IssuedKey:
        """The key with its secret, which is shown once."""
        view = self.view()
        return IssuedKey(secret=secret, **{name: getattr(view, name) for name in view.__struct_fields__})


class SessionRow(Base):
    """A browser's session: the digest of what its cookie holds."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(WireId("sess"), primary_key=True)
    key: Mapped[str] = mapped_column(WireId("key"), ForeignKey(KeyRow.id))
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    client: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("sessions_key_idx", key), Index("sessions_expires_at_idx", expires_at), {"info": ALL})

    def view(self) -> Session:
        """The session, as the API shows it."""
        return Session(**{name: getattr(self, name) for name in Session.__struct_fields__})


class SignInLinkRow(Base):
    """A code that opens one session; its use removes it."""

    __tablename__ = "sign_in_links"
    __table_args__ = ({"info": ALL},)

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key: Mapped[str] = mapped_column(WireId("key"), ForeignKey(KeyRow.id))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
