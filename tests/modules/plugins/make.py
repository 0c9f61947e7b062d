"""Builders for the tests of plugins: publishers with keys, versions that were looked at, and what is installed."""

import base64
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.hooks.manifest import Manifest, manifest_text, package_digest, statement
from aitbc.kernel.primitives import ids
from tests.app import Caller, TestApp
from tests.kernel.hooks.plugins import HALF, manifest, module

API = "/api/v1/plugins"


def word(prefix: str = "ns") -> str:
    """A namespace that nothing has."""
    return f"{prefix}-{ids.new_id('x')[-10:]}"


def package(declared: Manifest, artifact: bytes, key: Key) -> dict[str, Any]:
    """The body of a publication."""
    digest = package_digest(manifest_text(declared), artifact)
    return {
        "manifest": msgspec.to_builtins(declared),
        "artifact": base64.b64encode(artifact).decode(),
        "signature": key.sign(statement(declared.name, declared.version, digest)),
    }


class Publisher:
    """Somebody with a namespace and a key."""

    def __init__(self, app: TestApp, caller: Caller, namespace: str) -> None:
        self.app, self.caller, self.namespace = app, caller, namespace
        self.key = Key.generate()

    def manifest(self, name: str, **changes: Any) -> Manifest:
        """A manifest in this namespace."""
        return manifest(f"{self.namespace}.{name}", **changes)

    async def hand_in(self, declared: Manifest, artifact: bytes | None = None, **changes: Any) -> httpx.Response:
        """Publish, and answer what was answered."""
        body = package(declared, module(HALF) if artifact is None else artifact, self.key)
        return await self.caller.post(f"{API}/versions", body | changes)

    async def publish(self, declared: Manifest, artifact: bytes | None = None) -> dict[str, Any]:
        """Publish, and have it looked at; the version as it is then."""
        sent = await self.hand_in(declared, artifact)
        assert sent.status_code == 201, sent.text
        return await self.looked_at(sent.json()["id"])

    async def looked_at(self, version: str) -> dict[str, Any]:
        """A version once the pipeline is done with it."""
        await self.app.service("plugins").look_at_versions()
        while True:
            found: dict[str, Any] = (await self.caller.get(f"{API}/versions/{version}")).json()
            if found["state"] not in ("received", "validating", "scanning"):
                return found


async def publisher(app: TestApp, namespace: str | None = None, *, caller: Caller | None = None) -> Publisher:
    """Somebody who took a namespace."""
    made = Publisher(app, caller or await app.who("publisher"), namespace or word())
    taken = await made.caller.post(f"{API}/namespaces", {"name": made.namespace, "public_key": made.key.public})
    assert taken.status_code == 201, taken.text
    return made


async def put(caller: Caller, path: str, body: Mapping[str, Any]) -> httpx.Response:
    """Set something."""
    return await caller.client.put(f"{API}{path}", json=body)


async def price(caller: Caller) -> str:
    """What a unit of embedding is quoted at."""
    job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
    quoted = await caller.post("/api/v1/ai/quotes", job)
    assert quoted.status_code == 200, quoted.text
    return str(quoted.json()["unit_price"])
