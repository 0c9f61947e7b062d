"""A plugin in every place: published, scanned, bought, installed, asked for a quote, revoked, and asked no more."""

import asyncio
import base64
import uuid
from typing import Any

import httpx
import msgspec
import pytest

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.hooks.manifest import manifest_text, package_digest, statement
from tests.journeys.conftest import first_in_process
from tests.journeys.hand_miner import Place
from tests.kernel.hooks.plugins import HALF, manifest, module
from tests.modules.plugins.make import word

pytestmark = first_in_process
API = "/api/v1/plugins"
PATIENCE = 60.0


async def post(client: httpx.AsyncClient, path: str, body: Any = None) -> dict[str, Any]:
    """A command that succeeds."""
    answer = await client.post(path, json=body or {}, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def price(client: httpx.AsyncClient) -> str:
    """What a unit of embedding is quoted at."""
    job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
    return str((await post(client, "/api/v1/ai/quotes", job))["unit_price"])


async def until(client: httpx.AsyncClient, wanted: str) -> None:
    """Wait until a quote says this."""
    async with asyncio.timeout(PATIENCE):
        while await price(client) != wanted:  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
async def test_a_plugin_is_published_bought_installed_asked_and_revoked(app: Place) -> None:
    alice, admin = await app.who("alice"), await app.admin()
    key, space = Key.generate(), word()
    await post(alice.client, f"{API}/namespaces", {"name": space, "public_key": key.public})
    declared = manifest(f"{space}.{word('half')}")
    code = module(HALF, data=f'(data (i32.const 0) "{space}")')
    digest = package_digest(manifest_text(declared), code)
    body = {
        "manifest": msgspec.to_builtins(declared),
        "artifact": base64.b64encode(code).decode(),
        "signature": key.sign(statement(declared.name, declared.version, digest)),
    }
    version = await post(alice.client, f"{API}/versions", body)
    async with asyncio.timeout(PATIENCE):
        while version["state"] in ("received", "validating", "scanning"):
            await asyncio.sleep(0.2)
            version = (await alice.client.get(f"{API}/versions/{version['id']}")).json()
    assert version["state"] == "passed", version
    terms = await alice.client.put(f"{API}/catalogue/{declared.name}/terms", json={"price": "2"})
    assert terms.is_success, terms.text
    before = await price(alice.client)
    refused = await admin.client.post(f"{API}/installs", json={"plugin": declared.name})
    assert (refused.status_code, refused.json()["code"]) == (402, "plugin_licence_needed")
    account = (await admin.client.get("/api/v1/identity/keys/self")).json()["account"]
    await post(admin.client, "/api/v1/trading/deposits", {"account": account, "amount": "2"})
    licence = await post(admin.client, f"{API}/licences", {"plugin": declared.name})
    assert (licence["state"], licence["publisher_share"], licence["platform_share"]) == ("held", "1.4", "0.6")
    await post(admin.client, f"{API}/installs", {"plugin": declared.name})
    await until(alice.client, "0.00000005")
    await post(admin.client, f"{API}/catalogue/{declared.name}/revoke", {"reason": "over"})
    await until(alice.client, before)
    await post(admin.client, f"{API}/licences/{licence['id']}/refund")
