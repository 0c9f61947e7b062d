"""Browser sessions: opened by a key or once by a code, and ended by idleness, age, their key or their owner."""

import asyncio
from datetime import timedelta

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.accounts import KEY_CACHE_SECONDS, Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.identity.sessions import (
    LINK_LIFE,
    SESSION_LIFE,
    NoSessionsForMiners,
    SessionNotFound,
    Sessions,
    form_token,
    is_form_token,
)
from aitbc.kernel.identity.tables import SESSION_IDLE
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import Unauthenticated
from aitbc.kernel.primitives.ids import new_id
from tests.kernel.identity.test_accounts import ADMIN, kernel_database
from tests.roles import ROLE_SCOPES

House = tuple[Identity, Sessions]


@pytest.fixture
def house(target: Target) -> House:
    """Accounts and sessions over a fresh database."""
    db = kernel_database(target)
    identity = Identity(db, ROLE_SCOPES)
    return identity, Sessions(db, identity)


async def someone(identity: Identity, kind: str = "live", **grant: object) -> tuple[Principal, str]:
    account = await identity.create_account(ADMIN, new_id("name"))
    issued = await identity.issue(account=account.id, kind=kind, name="first", **grant)  # type: ignore[arg-type]
    return await identity.authenticate(issued.secret), issued.secret


async def test_a_session_acts_as_the_key_that_opened_it(house: House) -> None:
    identity, sessions = house
    who, secret = await someone(identity, scopes=["jobs:read", "self:read"])
    token = await sessions.begin(secret, "a browser")
    assert await sessions.resume(token) == who
    [session] = await sessions.sessions(who)
    assert (session.key, session.client) == (who.key, "a browser")


async def test_a_code_opens_one_session_however_many_try(house: House) -> None:
    identity, sessions = house
    who, _ = await someone(identity)
    link = await sessions.link(who)
    tries = await asyncio.gather(*(sessions.begin(link.code, "") for _ in range(8)), return_exceptions=True)
    tokens = [one for one in tries if isinstance(one, str)]
    assert len(tokens) == 1
    assert all(isinstance(one, Unauthenticated) for one in tries if one not in tokens)
    assert await sessions.resume(tokens[0]) == who


async def test_what_opens_no_session(house: House) -> None:
    identity, sessions = house
    who, secret = await someone(identity)
    token = await sessions.begin(secret, "")
    late = await sessions.link(who)
    clock.move(LINK_LIFE)
    for wrong in ("", "no key", new_key("live"), new_key("link"), token, late.code):
        with pytest.raises(Unauthenticated):
            await sessions.begin(wrong, "")
    miner, miner_secret = await someone(identity, "miner")
    with pytest.raises(NoSessionsForMiners):
        await sessions.begin(miner_secret, "")
    with pytest.raises(NoSessionsForMiners):
        await sessions.link(miner)
    with pytest.raises(Unauthenticated):
        await sessions.resume(secret)


async def test_a_session_ends_when_it_is_not_used(house: House) -> None:
    identity, sessions = house
    _, secret = await someone(identity)
    token = await sessions.begin(secret, "")
    for _ in range(3):
        clock.move(SESSION_IDLE - timedelta(hours=1))
        identity._cache.clear()
        sessions._touched.clear()  # a minute has passed
        await sessions.resume(token)
    clock.move(SESSION_IDLE)
    identity._cache.clear()
    with pytest.raises(Unauthenticated):
        await sessions.resume(token)


async def test_a_session_ends_at_its_age_and_with_its_key(house: House) -> None:
    identity, sessions = house
    who, secret = await someone(identity, lifetime=timedelta(days=30))
    token = await sessions.begin(secret, "")
    [session] = await sessions.sessions(who)
    assert session.expires_at - session.created_at == SESSION_LIFE
    await identity.revoke(who, who.key)
    await asyncio.sleep(KEY_CACHE_SECONDS)  # what other processes wait at most
    with pytest.raises(Unauthenticated):
        await sessions.resume(token)


async def test_only_its_owner_ends_a_session(house: House) -> None:
    identity, sessions = house
    who, secret = await someone(identity)
    other, _ = await someone(identity)
    token = await sessions.begin(secret, "")
    [session] = await sessions.sessions(who)
    assert not await sessions.sessions(other)
    with pytest.raises(SessionNotFound):
        await sessions.end(other, session.id)
    await sessions.end(who, session.id)
    with pytest.raises(Unauthenticated):
        await sessions.resume(token)
    with pytest.raises(SessionNotFound):
        await sessions.end(who, session.id)


async def test_a_form_belongs_to_one_session(house: House) -> None:
    identity, sessions = house
    _, secret = await someone(identity)
    one, other = await sessions.begin(secret, ""), await sessions.begin(secret, "")
    assert is_form_token(one, form_token(one))
    assert not is_form_token(other, form_token(one))
    assert not is_form_token(one, "")
    assert form_token(one) not in one
