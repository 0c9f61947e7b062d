"""The people of the bench: buyers with money and miners with keys, all made through the routes that everybody uses."""

import asyncio
import os
import uuid
from collections.abc import Sequence
from typing import Any

import aiohttp
from msgspec import Struct

from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement

AT_ONCE = 16
MINERS_OF_AN_OWNER = 500


class Buyer(Struct, frozen=True):
    """An account with money, and its key."""

    account: str
    key: str


class Rig(Struct, frozen=True):
    """An enrolled miner: its id, its API key, and the seed of the key that it signs with."""

    id: str
    key: str
    seed: str


class Clerk:
    """Makes people at one server, as its operator."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._url = url
        self._admin_key = admin_key

    async def buyers(self, count: int, funds: str = "100000") -> list[Buyer]:
        """New accounts with money."""
        async with self._session() as session:
            return await _in_turns([self._buyer(session, funds) for _ in range(count)])

    async def rigs(self, count: int, slots: int) -> list[Rig]:
        """New miners, each online."""
        async with self._session() as session:
            owners = [await self._buyer(session, "1") for _ in range(-(-count // MINERS_OF_AN_OWNER))]
            return await _in_turns(
                [self._rig(session, owners[number % len(owners)], number, slots) for number in range(count)]
            )

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    async def _buyer(self, session: aiohttp.ClientSession, funds: str) -> Buyer:
        name = f"bench {uuid.uuid4().hex[:12]}"
        account = (await self._post(session, "identity/accounts", {"name": name}))["id"]
        issued = await self._post(session, "identity/keys", {"name": "bench", "account": account})
        await self._post(session, "trading/deposits", {"account": account, "amount": funds})
        return Buyer(account, issued["secret"])

    async def _rig(self, session: aiohttp.ClientSession, owner: Buyer, number: int, slots: int) -> Rig:
        token = (await self._post(session, "gpu/enrolment-tokens", {}, owner.key))["token"]
        seed = os.urandom(32)
        key = Key(seed)
        body = {
            "token": token,
            "public_key": key.public,
            "proof": key.sign(canonical(enrolment_statement(token=token, public_key=key.public))),
            "name": f"rig {number}",
            "slots": slots,
            "capabilities": {"kinds": ["embed"]},
        }
        enrolled = await self._post(session, "gpu/enrolments", body)
        await self._post(session, "gpu/heartbeats", {"slots": slots, "slots_busy": 0}, enrolled["api_key"])
        return Rig(enrolled["miner"], enrolled["api_key"], seed.hex())

    async def _post(self, session: aiohttp.ClientSession, path: str, body: Any, key: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {key or self._admin_key}", "Idempotency-Key": uuid.uuid4().hex}
        if path == "gpu/enrolments":
            del headers["Authorization"]
        async with session.post(f"{self._url}/api/v1/{path}", json=body, headers=headers) as answer:
            told = await answer.json(content_type=None)
            assert answer.status < 300, f"{path}: {answer.status} {told}"
            return told


async def _in_turns(work: Sequence[Any]) -> list[Any]:
    """Do all of it, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each: Any) -> Any:
        async with turns:
            return await each

    return list(await asyncio.gather(*(one(each) for each in work)))
