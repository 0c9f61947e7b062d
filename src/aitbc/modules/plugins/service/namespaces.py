"""Namespaces: whose names begin with which word, and the key that signs what is published there."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import func, select, update

from aitbc.kernel.crypto.signing import key_fingerprint
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.modules.plugins.models.tables import NamespaceRow, PluginRow

NAMESPACES_MAX = 20
RESERVED = frozenset({"aitbc", "admin", "kernel", "official", "platform", "plugin", "plugins", "system"})


class NamespaceNotFound(NotFound):
    """There is no such namespace, or it is not yours."""

    code = "plugin_namespace_not_found"


class NamespaceTaken(Conflict):
    """This namespace is somebody's already, or nobody may have it."""

    code = "plugin_namespace_taken"


class TooManyNamespaces(TooMany):
    """This account has as many namespaces as it may have."""

    code = "too_many_plugin_namespaces"


class PluginNamespace(Struct, frozen=True, kw_only=True):
    """A word that the names of an account's plugins begin with."""

    name: str
    """The word. For example `acme`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    public_key: str | None
    """The Ed25519 key that signs new versions, url-safe base 64; null until it is set. For example
    `O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik`."""
    verified: bool
    """Whether the operator knows who that is. For example `false`."""
    created_at: datetime
    """When it was taken."""


class Namespaces:
    """Keeps namespaces."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def take(self, who: Principal, name: str, public_key: str | None, once: IdempotencyKey) -> PluginNamespace:
        """Take a namespace. Raises `NamespaceTaken`, `TooManyNamespaces`, `Invalid` for what is no key."""
        _check_key(public_key)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PluginNamespace)) is not None:
                return earlier
            if name in RESERVED or await uow.session.get(NamespaceRow, name) is not None:
                raise NamespaceTaken
            theirs = select(func.count()).where(NamespaceRow.account == who.account)
            if (await uow.session.scalar(theirs) or 0) >= NAMESPACES_MAX:
                raise TooManyNamespaces
            row = namespace_row(who.account, name, public_key)
            uow.add(row)
            return await uow.answer(once, _view(row))

    @retrying
    async def set_key(self, who: Principal, name: str, public_key: str) -> PluginNamespace:
        """Sign with another key from now on; what was published before keeps the key that signed it."""
        _check_key(public_key)
        async with self._db.unit_of_work() as uow:
            row = await owned(uow, who, name, lock=True)
            row.public_key = public_key
            await uow.audit(who.account, who.key, "plugins.set_key", name)
            return _view(row)

    @retrying
    async def verify(self, who: Principal, name: str, *, verified: bool) -> PluginNamespace:
        """Say whether the operator knows whose it is."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(NamespaceRow, name, lock=True, missing=NamespaceNotFound)
            row.verified = verified
            await uow.session.execute(update(PluginRow).where(PluginRow.namespace == name).values(verified=verified))
            await uow.audit(who.account, who.key, "plugins.verify", name)
            return _view(row)

    async def page(self, who: Principal, after: str | None, limit: int) -> Sequence[PluginNamespace]:
        """The caller's own, by name; an operator sees everybody's."""
        wanted = select(NamespaceRow).order_by(NamespaceRow.name).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(NamespaceRow.account == who.account)
        if after is not None:
            wanted = wanted.where(NamespaceRow.name > after)
        async with self._db.reading() as session:
            return [_view(row) for row in await session.scalars(wanted)]


def namespace_row(account: str, name: str, public_key: str | None) -> NamespaceRow:
    """A new namespace."""
    return NamespaceRow(name=name, account=account, public_key=public_key, verified=False, created_at=now())


async def owned(uow: UnitOfWork, who: Principal, name: str, *, lock: bool = False) -> NamespaceRow:
    """A namespace of the caller's own. Raises `NamespaceNotFound`."""
    row = await uow.find(NamespaceRow, name, lock=lock, missing=NamespaceNotFound)
    if row.account != who.account:
        raise NamespaceNotFound
    return row


def _check_key(public_key: str | None) -> None:
    try:
        if public_key is not None:
            key_fingerprint(public_key)
    except ValueError:
        message = "Expected the 32 bytes of an Ed25519 public key, in url-safe base 64"
        raise Invalid(message, fields=(FieldError("/public_key", message),)) from None


def _view(row: NamespaceRow) -> PluginNamespace:
    return PluginNamespace(
        name=row.name,
        account=row.account,
        public_key=row.public_key,
        verified=row.verified,
        created_at=row.created_at,
    )
