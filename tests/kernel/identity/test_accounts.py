"""API keys: valid for their scopes and lifetime, and nobody grants more than they have."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest
from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine

from aitbc.app import MODULES, parts
from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.database.migrations import configuration, migrate
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.identity.accounts import (
    KEY_CACHE_SECONDS,
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
from aitbc.kernel.identity.principal import Principal, role_scopes
from aitbc.kernel.identity.tables import Base
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import Forbidden, Unauthenticated, Unavailable
from aitbc.kernel.primitives.ids import decode, new_id
from tests.postgres import run_sql
from tests.roles import ROLE_SCOPES

ADMIN = Principal("acct_a", "key_a", "admin", frozenset({"*"}))


def kernel_database(target: Target) -> Database:
    """The database access of the kernel's schema."""
    own = Target(**{**{f: getattr(target, f) for f in target.__struct_fields__}, "user": "aitbc_kernel"})
    return Database("kernel", own, list(Base.metadata.tables.values()))


@pytest.fixture
def identity(target: Target) -> Identity:
    """Identity over a fresh database."""
    return Identity(kernel_database(target), ROLE_SCOPES)


async def someone(identity: Identity, **grant: object) -> tuple[Principal, str]:
    """A caller with an account of its own, and its secret."""
    account = await identity.create_account(ADMIN, new_id("name"))
    issued = await identity.issue(account=account.id, kind="live", name="first", **grant)  # type: ignore[arg-type]
    return await identity.authenticate(issued.secret), issued.secret


async def test_a_key_is_known_by_its_secret_alone(identity: Identity) -> None:
    who, secret = await someone(identity)
    assert who.kind == "live"
    for other in ("", secret[:-1], secret.lower(), secret + "0", new_key("live"), "\x00"):
        with pytest.raises(Unauthenticated):
            await identity.authenticate(other)


async def test_a_guess_is_refused_without_asking_the_database() -> None:
    nowhere = Identity(kernel_database(Target(host="/nonexistent", port=1, user="x", database="x")), ROLE_SCOPES)
    secret = new_key("live")
    for guess in (secret[:-1], secret.lower(), "z" + secret, "A" * 10_240, "", "\x00"):
        with pytest.raises(Unauthenticated):
            await nowhere.authenticate(guess)
    with pytest.raises(Unavailable):
        await nowhere.authenticate(secret)


async def test_a_revoked_key_is_refused_within_a_second_everywhere(identity: Identity, target: Target) -> None:
    who, secret = await someone(identity)
    elsewhere = Identity(kernel_database(target), ROLE_SCOPES)
    await elsewhere.authenticate(secret)
    await identity.revoke(who, who.key)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(secret)
    await asyncio.sleep(KEY_CACHE_SECONDS + 0.05)
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(secret)
    assert (await identity.revoke(ADMIN, who.key)).revoked_at is not None


async def test_an_expired_key_is_refused(identity: Identity) -> None:
    _, secret = await someone(identity, lifetime=timedelta(hours=1))
    await asyncio.sleep(KEY_CACHE_SECONDS + 0.05)
    clock.move(timedelta(hours=2))
    try:
        with pytest.raises(Unauthenticated):
            await identity.authenticate(secret)
    finally:
        clock.reset()


async def test_rotation_overlaps_and_then_ends_the_old_key(identity: Identity) -> None:
    who, old = await someone(identity)
    issued = await identity.rotate(who, who.key, timedelta(hours=1))
    assert (await identity.authenticate(issued.secret)).scopes == who.scopes
    await identity.authenticate(old)
    await asyncio.sleep(KEY_CACHE_SECONDS + 0.05)
    clock.move(timedelta(hours=2))
    try:
        with pytest.raises(Unauthenticated):
            await identity.authenticate(old)
        with pytest.raises(KeyRevoked):
            await identity.rotate(ADMIN, who.key)
    finally:
        clock.reset()


async def test_nobody_grants_more_than_they_hold(identity: Identity) -> None:
    narrow, _ = await someone(identity, scopes=("keys:manage", "jobs:read"))
    wide = await identity.issue(account=narrow.account, kind="live", name="wide")
    with pytest.raises(GrantTooWide):
        await identity.issue(account=narrow.account, kind="live", name="x", scopes=("jobs:create",), by=narrow)
    with pytest.raises(GrantTooWide):
        await identity.issue(account=narrow.account, kind="admin", name="x", by=narrow)
    with pytest.raises(GrantTooWide):
        await identity.rotate(narrow, wide.id)
    with pytest.raises(UnknownScope):
        await identity.issue(account=narrow.account, kind="live", name="x", scopes=("*",))
    issued = await identity.issue(account=narrow.account, kind="live", name="x", scopes=("jobs:read",), by=narrow)
    assert issued.scopes == ("jobs:read",)


async def test_a_key_that_is_being_replaced_makes_no_other(identity: Identity) -> None:
    who, secret = await someone(identity)
    other = await identity.issue(account=who.account, kind="live", name="other")
    successor = await identity.rotate(who, who.key, timedelta(hours=1))
    await identity.authenticate(secret)  # it still works
    for refused in (
        identity.rotate(who, who.key, timedelta(days=30)),
        identity.rotate(who, other.id),
        identity.issue(account=who.account, kind="live", name="x", scopes=("jobs:read",), by=who),
        identity.end_of_maker(who),
    ):
        with pytest.raises(KeyBeingReplaced):
            await refused
    assert {key.id for key in await identity.keys(who, limit=9, after=None)} == {who.key, other.id, successor.id}
    # Whoever holds another key may replace it again, for an answer that was lost; its own end comes no later by that.
    end = (await identity.key(who, who.key)).revoked_at
    heir = await identity.authenticate(successor.secret)
    await identity.rotate(heir, who.key, timedelta(days=30))
    assert (await identity.key(who, who.key)).revoked_at == end


async def test_of_two_rotations_at_once_one_makes_the_successor(identity: Identity) -> None:
    who, _ = await someone(identity)
    answers = await asyncio.gather(*(identity.rotate(who, who.key) for _ in range(6)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["IssuedKey"] + ["KeyBeingReplaced"] * 5


async def test_a_key_that_just_ended_makes_none_though_it_is_still_cached(identity: Identity, target: Target) -> None:
    who, secret = await someone(identity)
    elsewhere = Identity(kernel_database(target), ROLE_SCOPES)
    await elsewhere.authenticate(secret)
    await identity.revoke(who, who.key)
    with pytest.raises(Unauthenticated):
        await elsewhere.issue(account=who.account, kind="live", name="x", by=who)


async def test_no_key_makes_one_that_lives_longer(identity: Identity) -> None:
    short, _ = await someone(identity, lifetime=timedelta(hours=36))
    long = await identity.issue(account=short.account, kind="live", name="long", lifetime=timedelta(days=300))
    end = (await identity.key(short, short.key)).expires_at
    with pytest.raises(GrantTooLong, match="1 days left"):
        await identity.issue(account=short.account, kind="live", name="x", lifetime=timedelta(days=3), by=short)
    for lifetime in (None, timedelta(days=2)):  # not said, or said in whole days
        made = await identity.issue(account=short.account, kind="live", name="x", lifetime=lifetime, by=short)
        assert abs(made.expires_at - end) < timedelta(seconds=5)
    taken_over = await identity.rotate(short, long.id)
    assert abs(taken_over.expires_at - end) < timedelta(seconds=5)
    admin = await identity.issue(account=short.account, kind="admin", name="guest", lifetime=timedelta(days=1))
    guest = await identity.authenticate(admin.secret)
    with pytest.raises(GrantTooLong):
        await identity.issue(account=short.account, kind="admin", name="x", lifetime=timedelta(days=90), by=guest)
    # One that rotates itself hands on its whole lifetime: this is how a key is renewed.
    clock.move(timedelta(hours=30))
    try:
        renewed = await identity.rotate(short, short.key)
        assert abs(renewed.expires_at - clock.now() - timedelta(hours=36)) < timedelta(seconds=5)
    finally:
        clock.reset()


async def test_a_test_key_makes_no_live_one(identity: Identity) -> None:
    who, _ = await someone(identity)
    made = await identity.issue(account=who.account, kind="test", name="try")
    tester = await identity.authenticate(made.secret)
    for kind in ("live", "admin"):
        with pytest.raises(GrantTooWide):
            await identity.issue(account=who.account, kind=kind, name="x", scopes=("jobs:read",), by=tester)
    assert (await identity.issue(account=who.account, kind="test", name="x", by=tester)).kind == "test"


async def test_what_belongs_to_others_looks_like_nothing(identity: Identity) -> None:
    ann, _ = await someone(identity)
    bob, _ = await someone(identity)
    for refused in (identity.revoke(ann, bob.key), identity.rotate(ann, bob.key), identity.key(ann, bob.key)):
        with pytest.raises(KeyNotFound):
            await refused
    with pytest.raises(AccountNotFound):
        await identity.issue(account=bob.account, kind="live", name="x", scopes=("jobs:read",), by=ann)
    assert {key.account for key in await identity.keys(ann, limit=100, after=None)} == {ann.account}
    assert [account.id for account in await identity.accounts(ann, limit=100, after=None)] == [ann.account]


async def test_an_account_name_is_taken_once(identity: Identity) -> None:
    await identity.create_account(ADMIN, "twice")
    with pytest.raises(AccountExists):
        await identity.create_account(ADMIN, "twice")


@pytest.mark.parametrize("twin", ["BOB Straße", "bob STRASSE", "\uff22ob Stra\u00dfe"])
async def test_a_name_that_differs_in_case_or_width_alone_is_taken_too(identity: Identity, twin: str) -> None:
    with suppress(AccountExists):
        await identity.create_account(ADMIN, "Bob Straße")
    with pytest.raises(AccountExists):
        await identity.create_account(ADMIN, twin)
    kept = [account.name for account in await identity.accounts(ADMIN, limit=100, after=None)]
    assert "Bob Straße" in kept


async def test_names_that_were_alike_before_stay_and_the_oldest_keeps_the_name(
    new_database: Callable[[], Target],
) -> None:
    target = new_database()
    kernel = next(part for part in parts(MODULES) if part.name == "kernel")
    way = target.connect_arguments(application="tests", statement_seconds=60)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(**way))
    async with engine.connect() as connection:
        await connection.run_sync(lambda opened: command.downgrade(configuration(kernel, opened), "kernel_0001"))
    await engine.dispose()
    ids = sorted(decode("acct", new_id("acct")) for _ in range(3))
    for number, name in zip(ids, ("Bob", "bob", "BOB"), strict=True):
        await run_sql(target, f"INSERT INTO kernel.accounts VALUES ('{number}', '{name}', now())")
    await migrate(target, [kernel], secret=None)
    identity = Identity(kernel_database(target), ROLE_SCOPES)
    assert {account.name for account in await identity.accounts(ADMIN, limit=9, after=None)} >= {"Bob", "bob", "BOB"}
    with pytest.raises(AccountExists):
        await identity.create_account(ADMIN, "boB")


async def test_the_end_of_a_miner_ends_its_keys(identity: Identity) -> None:
    who, _ = await someone(identity)
    miner = new_id("mnr")
    issued = await identity.issue(account=who.account, kind="miner", name="rig", subject=miner)
    assert (await identity.authenticate(issued.secret)).subject == miner
    await identity.revoke_subject(miner, who)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(issued.secret)


async def test_an_account_is_there_or_not(identity: Identity) -> None:
    who, _ = await someone(identity)
    assert await identity.has_account(who.account)
    for other in (new_id("acct"), "acct_" + "0" * 26, who.key, "", "acct_'; --"):
        assert not await identity.has_account(other)


async def test_a_key_that_was_just_made_prints_without_its_secret(identity: Identity) -> None:
    who, _ = await someone(identity)
    issued = await identity.issue(account=who.account, kind="live", name="laptop")
    assert issued.secret not in repr(issued)
    assert issued.secret not in f"{issued}"
    assert issued.id in repr(issued)


def test_a_key_may_do_what_the_kernel_and_every_manifest_give_its_kind() -> None:
    roles = role_scopes([{"live": ("parcels:read",)}, {"live": ("parcels:write",), "miner": ("parcels:read",)}])
    own = {"keys:manage", "self:read", "webhooks:read", "webhooks:write"}
    assert roles["live"] == roles["test"] == {*own, "parcels:read", "parcels:write"}
    assert roles["miner"] == {"self:read", "parcels:read"}
    assert roles["admin"] == {"*"}
    for kind in ("admin", "test", "king"):
        with pytest.raises(ValueError, match=kind):
            role_scopes([{kind: ("parcels:read",)}])


async def test_keys_are_listed_of_the_account_that_is_named_or_refused(identity: Identity) -> None:
    (ann, _), (bob, _) = await someone(identity), await someone(identity)
    assert {key.account for key in await identity.keys(ann, limit=9, after=None, account=ann.account)} == {ann.account}
    with pytest.raises(Forbidden):
        await identity.keys(ann, limit=9, after=None, account=bob.account)
    assert {key.id for key in await identity.keys(ADMIN, limit=9, after=None, account=bob.account)} == {bob.key}
    for nobody in (new_id("acct"), "acct_", "", bob.key):
        with pytest.raises((Forbidden, AccountNotFound)):
            await identity.keys(ann, limit=9, after=None, account=nobody)
        with pytest.raises(AccountNotFound):
            await identity.keys(ADMIN, limit=9, after=None, account=nobody)
