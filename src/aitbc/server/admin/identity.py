"""The HTTP of identity: accounts, API keys, and the sessions of browsers."""

from datetime import timedelta
from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.accounts import (
    OVERLAP_DEFAULT,
    AccountExists,
    AccountNotFound,
    GrantTooLong,
    GrantTooWide,
    Identity,
    KeyBeingReplaced,
    KeyNotFound,
    KeyRevoked,
    UnknownScope,
)
from aitbc.kernel.identity.principal import KeyKind, Principal
from aitbc.kernel.identity.sessions import NoSessionsForMiners, SessionNotFound, Sessions
from aitbc.kernel.identity.tables import Account, ApiKey, IssuedKey, Session, SignInLink
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.pagination import Cursor, Limit, Page

DAY = 86_400
Name = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[\w][\w .@+-]*\Z", extra_json_schema={"examples": ["alice"]})
]
Scope = Annotated[str, Meta(max_length=40, pattern=r"^(\*|[a-z]+:[a-z]+)\Z")]


class CreateAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new owner of money, jobs and miners."""

    name: Name
    """What it is called; unique. For example `alice`."""


class CreateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new API key of an account: the caller's own unless an admin names another."""

    name: Name
    """What it is called. For example `laptop`."""
    kind: Annotated[str, Meta(pattern=r"^(live|test|admin)\Z"), one_of(("live", "test", "admin"))] = "live"
    """What it is for: `live` for real use, `test` for trying out, `admin` for operators."""
    account: Annotated[str, Meta(max_length=40)] | None = None
    """Whom it speaks for; left out, the caller's own account. For example `acct_01k0000000000000000000000a`."""
    scopes: Annotated[tuple[Scope, ...], Meta(max_length=40)] | None = None
    """What it may do; left out, all that its kind may. For example `["jobs:create", "jobs:read"]`."""
    expires_in_days: Annotated[int, Meta(ge=1, le=3650)] | None = None
    """Without it 90 days, or what is left of the key that makes it; more than that is refused."""


class RotateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A successor for a key, which goes on working for the overlap."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * DAY)] = int(OVERLAP_DEFAULT.total_seconds())
    """How long the old key goes on working, in seconds. For example `3600`."""


class Whoami(Struct, frozen=True, kw_only=True):
    """Who the caller is."""

    account: str
    """Whom the key speaks for. For example `acct_01k0000000000000000000000a`."""
    key: str
    """The key's id. For example `key_01k0000000000000000000000a`."""
    kind: KeyKind
    """`live` and `test` for people and programs, `admin` for operators, `miner` for one miner."""
    scopes: tuple[str, ...]
    """What it may do; `*` is everything. For example `["jobs:create", "jobs:read"]`."""
    miner: str | None
    """The miner that it belongs to; null for people and programs. For example `mnr_01k0000000000000000000000a`."""


class AccountController(Controller):
    """Accounts."""

    path = "/accounts"
    tags = ("identity",)

    @post("/", operation_id="create_account", opt={"permission": "accounts:create", "errors": (AccountExists,)})
    async def create(
        self,
        identity: NamedDependency[Identity],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[CreateAccount],
    ) -> Account:
        """Create an account; its first key is made with `POST /api/v1/identity/keys`."""
        return await identity.create_account(who, data.name, once)

    @get("/", operation_id="list_accounts", opt={"permission": "keys:manage"})
    async def list_accounts(
        self,
        identity: NamedDependency[Identity],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Account]:
        """List accounts from the newest on: all of them for an admin, else the caller's own."""
        after = after_id("accounts", cursor, "acct")
        found = await identity.accounts(who, limit=limit + 1, after=after)
        return Page.of("accounts", found, limit, lambda account: account.id)


class KeyController(Controller):
    """API keys."""

    path = "/keys"
    tags = ("identity",)

    @post(
        "/",
        operation_id="create_key",
        opt={
            "permission": "keys:manage",
            "idempotency": "natural",
            "errors": (AccountNotFound, GrantTooWide, GrantTooLong, KeyBeingReplaced, UnknownScope),
        },
    )
    async def create(
        self, identity: NamedDependency[Identity], who: NamedDependency[Principal], data: JSONBody[CreateKey]
    ) -> IssuedKey:
        """Create an API key, which may do no more than the one that asks and lives no longer.

        Its secret is in this answer and is never shown again, so the answer is not kept for a replay.
        """
        return await identity.issue(
            account=data.account or who.account,
            kind=data.kind,
            name=data.name,
            scopes=data.scopes,
            lifetime=None if data.expires_in_days is None else timedelta(days=data.expires_in_days),
            by=who,
        )

    @get("/", operation_id="list_keys", opt={"permission": "keys:manage", "errors": (AccountNotFound,)})
    async def list_keys(
        self,
        identity: NamedDependency[Identity],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
        account: FromQuery[str | None] = None,
    ) -> Page[ApiKey]:
        """List API keys from the newest on, without their secrets: the caller's own, for an admin those of everybody.

        With `account`, those of that account: the caller's own one, or for an admin any.
        """
        bound = [account or ""]
        after = after_id("keys", cursor, "key", bound_to=bound)
        found = await identity.keys(who, limit=limit + 1, after=after, account=account)
        return Page.of("keys", found, limit, lambda key: key.id, bound_to=bound)

    @get("/self", operation_id="whoami", opt={"permission": "self:read"})
    async def whoami(self, who: NamedDependency[Principal]) -> Whoami:
        """Show who the caller is, by its key."""
        return Whoami(
            account=who.account, key=who.key, kind=who.kind, scopes=tuple(sorted(who.scopes)), miner=who.subject
        )

    @post(
        "/{key:str}/rotate",
        operation_id="rotate_key",
        opt={
            "permission": "keys:manage",
            "idempotency": "natural",
            "errors": (KeyNotFound, KeyRevoked, KeyBeingReplaced, GrantTooWide),
        },
    )
    async def rotate(
        self,
        identity: NamedDependency[Identity],
        who: NamedDependency[Principal],
        key: FromPath[str],
        data: JSONBody[RotateKey],
    ) -> IssuedKey:
        """Make a successor with the same rights; the old key works until the overlap ends.

        A key that rotates itself hands on its whole lifetime, once: in the overlap it neither rotates nor makes a key.
        The successor of another key ends with the key that asks, at the latest.
        """
        return await identity.rotate(who, key, timedelta(seconds=data.overlap_seconds))

    @post(
        "/{key:str}/revoke",
        operation_id="revoke_key",
        status_code=200,
        opt={"permission": "keys:manage", "idempotency": "natural", "errors": (KeyNotFound,)},
    )
    async def revoke(
        self, identity: NamedDependency[Identity], who: NamedDependency[Principal], key: FromPath[str]
    ) -> ApiKey:
        """End a key: it is refused everywhere within a second. Repeating this is harmless."""
        return await identity.revoke(who, key)


class SessionList(Struct, frozen=True, kw_only=True):
    """The browsers that are signed in."""

    data: list[Session]
    """The sessions, newest first; at most 100."""


class SessionController(Controller):
    """Sessions of browsers."""

    tags = ("identity",)

    @post(
        "/sign-in-links",
        operation_id="create_sign_in_link",
        opt={"permission": "self:read", "idempotency": "natural", "errors": (NoSessionsForMiners,)},
    )
    async def create_link(self, sessions: NamedDependency[Sessions], who: NamedDependency[Principal]) -> SignInLink:
        """Make a code that signs one browser in as the caller's key, once and within ten minutes.

        It is in this answer and is never shown again, so the answer is not kept for a replay.
        """
        return await sessions.link(who)

    @get("/sessions", operation_id="list_sessions", opt={"permission": "self:read"})
    async def list_sessions(self, sessions: NamedDependency[Sessions], who: NamedDependency[Principal]) -> SessionList:
        """List the browsers that are signed in to the caller's account. There are few, and one answer has them all."""
        return SessionList(data=list(await sessions.sessions(who)))

    @post(
        "/sessions/{session:str}/end",
        operation_id="end_session",
        status_code=200,
        opt={"permission": "keys:manage", "idempotency": "natural", "errors": (SessionNotFound,)},
    )
    async def end(
        self, sessions: NamedDependency[Sessions], who: NamedDependency[Principal], session: FromPath[str]
    ) -> Session:
        """Sign a browser out: its session is refused everywhere within a second."""
        return await sessions.end(who, session)
