"""Accounts and their API keys: create, list, rotate, revoke; and authentication, with a short-lived cache of keys."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import select

from aitbc.kernel.crypto.api_key import fingerprint, kind_of, new_key, visible, well_formed
from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import EVERYTHING, Principal
from aitbc.kernel.identity.tables import SESSION_IDLE, Account, AccountRow, ApiKey, IssuedKey, KeyRow
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from aitbc.kernel.primitives.ids import encode as encode_id
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.kernel.primitives.text import case_folded

KEY_CACHE_SECONDS = 0.75
"""How long a key is cached: a revocation takes effect in every process within a second."""
KEY_CACHE_MAX = 50_000
LIFETIME_DEFAULT = timedelta(days=90)
LIFETIME_MAX = timedelta(days=3650)
ROUNDING = timedelta(days=1)
"""Lifetimes are asked in whole days: one that is longer than its maker by less ends with it and is not refused."""
OVERLAP_DEFAULT = timedelta(hours=24)


class KeyNotFound(NotFound):
    """There is no such key."""

    code = "key_not_found"


class AccountNotFound(NotFound):
    """There is no such account."""

    code = "account_not_found"


class AccountExists(Conflict):
    """An account of this name exists."""

    code = "account_exists"


class KeyRevoked(Conflict):
    """This key was revoked or has expired; make a new one."""

    code = "key_revoked"


class GrantTooWide(Forbidden):
    """Nobody can grant more than they hold."""

    code = "grant_too_wide"


class GrantTooLong(Forbidden):
    """A key cannot make one that lives longer than itself."""

    code = "grant_too_long"


class KeyBeingReplaced(Forbidden):
    """This key has a successor and ends with its overlap; make and rotate keys with the successor."""

    code = "key_being_replaced"


class UnknownScope(Invalid):
    """There is no such scope for this kind of key."""

    code = "unknown_scope"


class Identity:
    """The accounts and keys of this installation."""

    def __init__(self, db: Database, scopes: Mapping[str, frozenset[str]]) -> None:
        """`scopes` are those that a key of each kind may have: see `role_scopes`."""
        self._db = db
        self._scopes = scopes
        self._cache: dict[bytes, tuple[float, Principal | None]] = {}
        self._on_revoked: list[Callable[[], None]] = []
        self._lookups: Batcher[bytes, Principal | None] = Batcher(self._look_up, in_flight_max=1)
        self._session_lookups: Batcher[bytes, Principal | None] = Batcher(self._look_up_sessions, in_flight_max=1)

    def on_revoked(self, callback: Callable[[], None]) -> None:
        """Call this when a key was revoked in this process; what others revoke shows when the key is read again."""
        self._on_revoked.append(callback)

    def forget(self, digests: Sequence[bytes]) -> None:
        """Read these keys and sessions again before they are believed, also for what is open."""
        for digest in digests:
            self._cache.pop(digest, None)
        for callback in self._on_revoked:
            callback()

    async def authenticate(self, secret: str, *, cached: bool = True) -> Principal:
        """The principal of an API key, or of a browser's session, which acts as the key it was opened with.

        Raises `Unauthenticated`, always with the same message, for anything else. What was read up to
        `KEY_CACHE_SECONDS` ago counts, unless `cached` is false.
        """
        digest = fingerprint(secret)
        known = self._cache.get(digest)
        if known is None or known[0] < monotonic() or not cached:
            if not well_formed(secret):
                raise Unauthenticated
            lookups = self._session_lookups if kind_of(secret) == "session" else self._lookups
            principal = await lookups.do(digest)
            if len(self._cache) >= KEY_CACHE_MAX:
                self._cache.clear()
            known = (monotonic() + KEY_CACHE_SECONDS, principal)
            self._cache[digest] = known
        if known[1] is None:
            raise Unauthenticated
        return known[1]

    async def _look_up(self, digests: Sequence[bytes]) -> Sequence[Principal | AppError | None]:
        async with self._db.raw() as connection:
            rows = await connection.fetch(
                "SELECT digest, id, account, kind, scopes, subject FROM kernel.keys "
                "WHERE digest = ANY($1) AND expires_at > $2 AND (revoked_at IS NULL OR revoked_at > $2)",
                list(set(digests)),
                now(),
            )
        found = {row["digest"]: _principal(row) for row in rows}
        return [found.get(digest) for digest in digests]

    async def _look_up_sessions(self, digests: Sequence[bytes]) -> Sequence[Principal | AppError | None]:
        at = now()
        async with self._db.raw() as connection:
            rows = await connection.fetch(
                "SELECT s.digest, k.id, k.account, k.kind, k.scopes, k.subject "
                "FROM kernel.sessions s JOIN kernel.keys k ON k.id = s.key WHERE s.digest = ANY($1) "
                "AND s.expires_at > $2 AND s.seen_at > $3 AND k.expires_at > $2 "
                "AND (k.revoked_at IS NULL OR k.revoked_at > $2)",
                list(set(digests)),
                at,
                at - SESSION_IDLE,
            )
        found = {row["digest"]: _principal(row) for row in rows}
        return [found.get(digest) for digest in digests]

    @retrying
    async def create_account(self, who: Principal, name: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Account:
        """Create an account. Raises `AccountExists`."""
        async with self._db.unit_of_work() as uow:
            if earlier := await uow.replay(once, Account):
                return earlier
            if await uow.session.scalar(select(AccountRow).where(AccountRow.folded == case_folded(name))):
                raise AccountExists
            row = AccountRow.create(name)
            uow.add(row)
            await uow.audit(who.account, who.key, "account.create", row.id, name=name)
            return await uow.answer(once, row.view())

    async def accounts(self, who: Principal, *, limit: int, after: str | None) -> list[Account]:
        """Accounts, newest first: all for an admin, else the caller's own."""
        query = select(AccountRow).order_by(AccountRow.id.desc()).limit(limit)
        if not who.is_admin:
            query = query.where(AccountRow.id == who.account)
        if after is not None:
            query = query.where(AccountRow.id < after)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def has_account(self, account: str) -> bool:
        """Whether there is such an account."""
        if not is_id("acct", account):
            return False
        async with self._db.reading() as session:
            return await session.get(AccountRow, account) is not None

    async def issue(
        self,
        *,
        account: str,
        kind: str,
        name: str,
        scopes: Sequence[str] | None = None,
        subject: str | None = None,
        lifetime: timedelta | None = None,
        ends_by: datetime | None = None,
        by: Principal | None = None,
    ) -> IssuedKey:
        """Issue a key of an account; `by` is the caller, none for the platform itself. It ends by `ends_by`, if given.

        Without a `lifetime` it is the default, or what is left of the caller's own key. Raises `AccountNotFound`,
        `GrantTooWide`, `GrantTooLong`, `KeyBeingReplaced`, `UnknownScope`.
        """
        async with self._db.unit_of_work() as uow:
            owner = await uow.find(AccountRow, account, missing=AccountNotFound)
            at = now()
            end = at + min(LIFETIME_DEFAULT if lifetime is None else lifetime, LIFETIME_MAX)
            if by is not None:
                last = (await _maker(uow, by)).expires_at
                if lifetime is not None and end > last + ROUNDING:
                    days = (last - at).days
                    raise GrantTooLong(f"This key has {days} days left, and cannot make one that lives longer.")
                end = min(end, last)
            if ends_by is not None:
                end = min(end, ends_by)
            return await self._issue(uow, owner.id, kind, name, scopes, subject, end, by)

    async def end_of_maker(self, who: Principal) -> datetime:
        """When the caller's key ends, and so whatever acts in its place. Raises `KeyBeingReplaced`."""
        async with self._db.unit_of_work() as uow:
            return (await _maker(uow, who)).expires_at

    async def _issue(
        self,
        uow: UnitOfWork,
        account: str,
        kind: str,
        name: str,
        scopes: Sequence[str] | None,
        subject: str | None,
        expires_at: datetime,
        by: Principal | None,
    ) -> IssuedKey:
        allowed = self._scopes[kind]
        granted = frozenset(scopes) if scopes is not None else allowed
        if EVERYTHING not in allowed and not granted <= allowed:
            raise UnknownScope(f"A {kind} key cannot hold: {', '.join(sorted(granted - allowed))}.")
        if by is not None:
            _require_held(by, account, kind, granted)
        secret = new_key(kind)
        row = KeyRow(
            id=new_id("key"),
            account=account,
            kind=kind,
            name=name,
            prefix=visible(secret),
            digest=fingerprint(secret),
            scopes=sorted(granted),
            subject=subject,
            created_at=now(),
            expires_at=expires_at,
            revoked_at=None,
        )
        uow.add(row)
        actor = (by.account, by.key) if by else ("system", "system")
        await uow.audit(*actor, "key.issue", row.id, kind=kind, scopes=sorted(granted), subject=subject)
        return row.issued(secret)

    async def keys(self, who: Principal, *, limit: int, after: str | None, account: str | None = None) -> list[ApiKey]:
        """Keys, newest first: the caller's own, or for an admin those of all accounts, or of the one that is named.

        Raises `Forbidden` for somebody else's account, `AccountNotFound` where an admin names none that there is.
        """
        if account is not None and not who.owns(account):
            raise Forbidden("This key may list the keys of its own account only.")
        if account is not None and account != who.account and not await self.has_account(account):
            raise AccountNotFound
        query = select(KeyRow).order_by(KeyRow.id.desc()).limit(limit)
        wanted = account or (None if who.is_admin else who.account)
        if wanted is not None:
            query = query.where(KeyRow.account == wanted)
        if after is not None:
            query = query.where(KeyRow.id < after)
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def key(self, who: Principal, key: str) -> ApiKey:
        """One key: the caller's own, or for an admin any. Raises `KeyNotFound`."""
        async with self._db.unit_of_work() as uow:
            return (await self._find_owned(uow, who, key)).view()

    async def rotate(self, who: Principal, key: str, overlap: timedelta = OVERLAP_DEFAULT) -> IssuedKey:
        """Issue a successor with the same scopes; the old key stays valid for `overlap`, and can make no other one.

        Raises `KeyNotFound`, `KeyRevoked`, `KeyBeingReplaced`, `GrantTooWide`.
        """
        async with self._db.unit_of_work() as uow:
            row = await self._find_owned(uow, who, key)
            if not row.valid_at(now()):
                raise KeyRevoked
            maker = await _maker(uow, who)
            successor_end = now() + (row.expires_at - row.created_at)
            if row.id != maker.id:  # a key must gain neither scopes nor time by rotating another
                _require_held(who, row.account, row.kind, frozenset(row.scopes))
                successor_end = min(successor_end, maker.expires_at)
            end = now() + overlap
            row.revoked_at = end if row.revoked_at is None else min(end, row.revoked_at)
            row.rotated = True
            return await self._issue(uow, row.account, row.kind, row.name, row.scopes, row.subject, successor_end, None)

    async def revoke(self, who: Principal, key: str) -> ApiKey:
        """Revoke a key; takes effect everywhere within a second. Idempotent. Raises `KeyNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._find_owned(uow, who, key)
            if row.revoked_at is None or row.revoked_at > now():
                row.revoked_at = now()
                await uow.audit(who.account, who.key, "key.revoke", row.id)
            digest, view = row.digest, row.view()
        self.forget([digest])
        return view

    async def revoke_subject(self, subject: str, by: Principal) -> None:
        """Revoke every key of a miner."""
        async with self._db.unit_of_work() as uow:
            rows = list(await uow.session.scalars(select(KeyRow).where(KeyRow.subject == subject).with_for_update()))
            for row in rows:
                if row.revoked_at is None or row.revoked_at > now():
                    row.revoked_at = now()
                    await uow.audit(by.account, by.key, "key.revoke", row.id)
        self.forget([row.digest for row in rows])

    async def _find_owned(self, uow: UnitOfWork, who: Principal, key: str) -> KeyRow:
        row = await uow.find(KeyRow, key, lock=True, missing=KeyNotFound)
        if not who.owns(row.account):
            raise KeyNotFound
        return row

    @retrying
    async def ensure_account(self, name: str) -> Account:
        """The account of this name, created if it does not exist: the operator's, at the first start."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.scalar(select(AccountRow).where(AccountRow.name == name))
            if row is None:
                row = AccountRow.create(name)
                uow.add(row)
            return row.view()


async def _maker(uow: UnitOfWork, by: Principal) -> KeyRow:
    """The key that wants to make another, as it is now and not as it was cached.

    Its row needs no lock: a rotation that commits after this look could have come after the whole command.
    """
    row = await uow.find(KeyRow, by.key, missing=KeyNotFound)
    if not row.valid_at(now()):
        raise Unauthenticated
    if row.rotated:
        raise KeyBeingReplaced
    return row


def _require_held(by: Principal, account: str, kind: str, granted: frozenset[str]) -> None:
    if by.is_admin and EVERYTHING in by.scopes:
        return
    if by.account != account:
        raise AccountNotFound
    if kind == "admin" or (by.kind == "test" and kind != "test") or not granted <= by.scopes:
        raise GrantTooWide


def _principal(row: Any) -> Principal:
    return Principal(
        account=encode_id("acct", row["account"]),
        key=encode_id("key", row["id"]),
        kind=row["kind"],
        scopes=frozenset(row["scopes"]),
        subject=row["subject"],
    )
