"""Browser sessions: opened with an API key or a one-time code, bounded in idleness and life, ended with their key."""

import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import delete, select

from aitbc.kernel.crypto.api_key import fingerprint, kind_of, new_key, well_formed
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.identity.tables import SESSION_IDLE, KeyRow, Session, SessionRow, SignInLink, SignInLinkRow
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden, NotFound, Unauthenticated
from aitbc.kernel.primitives.ids import new_id

SESSION_LIFE = timedelta(days=7)
"""How long a session lasts at most, however much it is used."""
LINK_LIFE = timedelta(minutes=10)
TOUCH_SECONDS = 60.0
"""How often the use of a session is written down."""
CLIENT_LENGTH_MAX = 200
SIGN_IN_PATH = "/sign-in"
KINDS = frozenset({"live", "test", "admin"})
"""The keys of people: a miner's key opens no session, nor does a session another."""
_TOUCHED_MAX = 50_000


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class NoSessionsForMiners(Forbidden):
    """The key of a miner opens no browser session; sign in with the key of its owner."""

    code = "no_sessions_for_miners"


class Sessions:
    """The browser sessions of this installation."""

    def __init__(self, db: Database, identity: Identity, life: Callable[[], timedelta] = lambda: SESSION_LIFE) -> None:
        """`life` says how long a session that is opened now lasts at most."""
        self._db = db
        self._identity = identity
        self._life = life
        self._touched: dict[bytes, float] = {}

    async def begin(self, secret: str, client: str) -> str:
        """Open a session with an API key or the code of a link; returns its token, for the browser's cookie.

        `client` is how the browser names itself. Raises `Unauthenticated`, `NoSessionsForMiners`.
        """
        if not well_formed(secret):
            raise Unauthenticated
        key = await self._use_link(secret) if kind_of(secret) == "link" else await self._key_of(secret)
        token = new_key("session")
        async with self._db.unit_of_work() as uow:
            row, at = await uow.session.get(KeyRow, key), now()
            if row is None or not row.valid_at(at):
                raise Unauthenticated
            session = SessionRow(
                id=new_id("sess"),
                key=row.id,
                digest=fingerprint(token),
                client=client[:CLIENT_LENGTH_MAX],
                created_at=at,
                seen_at=at,
                expires_at=min(at + self._life(), row.expires_at),
            )
            uow.add(session)
            await _remove_expired(uow, at)
            await uow.audit(row.account, row.id, "session.begin", session.id)
        return token

    async def _key_of(self, secret: str) -> str:
        if kind_of(secret) == "session":
            raise Unauthenticated
        who = await self._identity.authenticate(secret, cached=False)
        _require_person(who)
        return who.key

    async def _use_link(self, code: str) -> str:
        """The key that a link stands for; the link is gone afterwards, whoever comes at the same time."""
        async with self._db.unit_of_work() as uow:
            used = delete(SignInLinkRow).where(SignInLinkRow.digest == fingerprint(code))
            row = (await uow.session.execute(used.returning(SignInLinkRow.key, SignInLinkRow.expires_at))).one_or_none()
        if row is None or row.expires_at <= now():
            raise Unauthenticated
        key: str = row.key
        return key

    async def link(self, who: Principal) -> SignInLink:
        """A code that opens one session as the caller's key, once. Raises `NoSessionsForMiners`."""
        _require_person(who)
        code, end = new_key("link"), now() + LINK_LIFE
        async with self._db.unit_of_work() as uow:
            uow.add(SignInLinkRow(digest=fingerprint(code), key=who.key, expires_at=end))
            await uow.audit(who.account, who.key, "sign_in_link.create", who.key)
        return SignInLink(code=code, path=f"{SIGN_IN_PATH}#{code}", expires_at=end)

    async def resume(self, token: str, *, is_use: bool = True) -> Principal:
        """Whom a session acts for. Raises `Unauthenticated`.

        `is_use` says that somebody did something: what a page that lies open asks by itself keeps no session alive.
        """
        if not well_formed(token) or kind_of(token) != "session":
            raise Unauthenticated
        who = await self._identity.authenticate(token)
        digest = fingerprint(token)
        if is_use and self._touched.get(digest, 0.0) < monotonic():
            if len(self._touched) >= _TOUCHED_MAX:
                self._touched.clear()
            self._touched[digest] = monotonic() + TOUCH_SECONDS
            async with self._db.raw(writes=True) as connection:
                await connection.execute("UPDATE kernel.sessions SET seen_at = $2 WHERE digest = $1", digest, now())
        return who

    async def sessions(self, who: Principal) -> Sequence[Session]:
        """The open sessions of the caller's account, newest first."""
        at = now()
        query = (
            select(SessionRow)
            .join(KeyRow, KeyRow.id == SessionRow.key)
            .where(KeyRow.account == who.account, SessionRow.expires_at > at, SessionRow.seen_at > at - SESSION_IDLE)
            .order_by(SessionRow.id.desc())
            .limit(100)
        )
        async with self._db.reading() as session:
            return [row.view() for row in await session.scalars(query)]

    async def end(self, who: Principal, session: str) -> Session:
        """End a session of the caller's account; it is refused everywhere within a second. Raises `SessionNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(SessionRow, session, lock=True, missing=SessionNotFound)
            key = await uow.find(KeyRow, row.key, missing=SessionNotFound)
            if not who.owns(key.account):
                raise SessionNotFound
            digest, view = row.digest, row.view()
            await uow.session.delete(row)
            await uow.audit(who.account, who.key, "session.end", session)
        self._identity.forget([digest])
        return view

    async def end_own(self, token: str) -> None:
        """End the session of this token; nothing where it has ended already."""
        digest = fingerprint(token)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(delete(SessionRow).where(SessionRow.digest == digest))
        self._identity.forget([digest])


async def _remove_expired(uow: UnitOfWork, at: datetime) -> None:
    """Remove what is over: opening a session is the moment for it, so there is never much."""
    await uow.session.execute(delete(SessionRow).where(SessionRow.expires_at < at))
    await uow.session.execute(delete(SignInLinkRow).where(SignInLinkRow.expires_at < at))


def _require_person(who: Principal) -> None:
    if who.kind not in KINDS:
        raise NoSessionsForMiners


def form_token(session_token: str) -> str:
    """What the forms of a session carry, so that no other page can send them: no secret by itself."""
    return hmac.digest(session_token.encode(), b"aitbc form", "sha256").hex()[:32]


def is_form_token(session_token: str, sent: str) -> bool:
    """Whether a form was made for this session."""
    return hmac.compare_digest(form_token(session_token).encode(), sent.encode("utf-8", "replace"))
