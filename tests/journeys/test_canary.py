"""Secrets and inputs of a whole working day turn up nowhere but where they belong: not in logs, metrics, errors, lists."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.crypto.signing import Key, canonical, encode_bytes, enrolment_statement
from aitbc.kernel.database.migrations import role_password
from tests.chaos.server_process import ServerProcess
from tests.journeys.hand_miner import HandMiner
from tests.server.maintenance.test_own_database import Foreign, foreign
from tests.server.runtime.test_serve import free_port

__all__ = ["foreign"]
INPUT = "canary-of-the-input-7f3a"
WORD = "word of canary"
SECRET_KEY = "0123456789abcdef" * 4


@dataclass
class Day:
    """A server in its default log form, and everything it answered."""

    server: ServerProcess
    answers: list[tuple[str, str]] = field(default_factory=list)
    """What was asked, and the whole answer, but for the answers that are there to show a secret or an input."""
    secrets: dict[str, str] = field(default_factory=dict)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """A client whose answers are noted."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        hooks = {"response": [self._note]}
        return httpx.AsyncClient(base_url=self.server.url, headers=headers, timeout=20, event_hooks=hooks)

    async def _note(self, answer: httpx.Response) -> None:
        await answer.aread()
        asked = f"{answer.request.method} {answer.request.url.path}"
        assert answer.status_code < 500, f"{asked}: {answer.text}"
        self.answers.append((asked, f"{answer.status_code} {dict(answer.headers)} {answer.text}"))

    def take(self) -> str:
        """The newest answer, which may show what the others may not."""
        return self.answers.pop()[1]

    async def told(self, client: httpx.AsyncClient, name: str, path: str, body: Any, shown: str) -> Any:
        """An answer that shows a secret this one time: noted under its name, and taken out of the others."""
        answer = await client.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        self.take()
        self.secrets[name] = answer.json()[shown]
        return answer.json()


def spellings(secret: str) -> set[bytes]:
    """How a text may stand somewhere: plain, in a URL, in JSON, in base 64, in hexadecimal."""
    plain = secret.encode()
    found = {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        plain.hex(),
        base64.b64encode(plain).decode()[:-4],
    }
    return {spelling.encode() for spelling in found}


def found_in(text: bytes, secrets: dict[str, str]) -> set[str]:
    """The names of the secrets that stand in a text."""
    return {name for name, secret in secrets.items() if any(one in text for one in spellings(secret))}


@pytest.fixture
def server(foreign: Foreign, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server on a database that wants a password, with its log in the form that it has by default, and all of it."""
    foreign.sql(f"CREATE ROLE canary LOGIN CREATEROLE PASSWORD '{WORD}'")
    foreign.sql("CREATE DATABASE of_canary OWNER canary")
    settings = {"AITBC_DATABASE_URL": foreign.url("canary", "of_canary"), "AITBC_SECRET_KEY": SECRET_KEY}
    made = ServerProcess(tmp_path / "state", free_port(), **settings, AITBC_LOG__LEVEL="debug")
    made.start()
    yield made
    if made.is_alive:
        made.stop()


@pytest.mark.parametrize("foreign", ["of the wheel"], indirect=True)
async def test_no_secret_and_no_input_leaves_its_place(server: ServerProcess) -> None:
    day = Day(server)
    await _work(day)
    await _provoke(day)
    await _look(day)
    assert server.stop() == 0
    log = (server.state.parent / "server.log").read_bytes()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"request_answered", "admin_key_written"} <= {line["event"] for line in lines}
    day.secrets |= {
        "the admin key": server.admin_key,
        "the node's key": (server.state / "node.key").read_text().strip(),
        "the database's password": WORD,
        "the installation's secret": SECRET_KEY,
        "a role's password": role_password(SECRET_KEY.encode(), "aitbc_ai"),
        "the input": INPUT,
    }
    assert len(day.secrets) > 12
    assert found_in(log, day.secrets) == set()
    leaks = [(asked, answer) for asked, answer in day.answers if found_in(answer.encode(), day.secrets)]
    assert leaks == []


async def _work(day: Day) -> None:
    """Keys, money, a miner, and a job that is done and paid."""
    keys = "/api/v1/identity/keys"
    async with day.client(day.server.admin_key) as admin:
        account = (await admin.post("/api/v1/identity/accounts", json={"name": "alice"})).json()["id"]
        await day.told(admin, "a key", keys, {"name": "alice", "account": account}, "secret")
        deposit = {"account": account, "amount": "5"}
        await admin.post("/api/v1/trading/deposits", json=deposit, headers={"Idempotency-Key": "d"})
        await admin.post("/api/v1/trading/ledger/verify")
    async with day.client(day.secrets["a key"]) as alice:
        narrow = await day.told(alice, "a narrow key", keys, {"name": "narrow", "scopes": ["jobs:read"]}, "secret")
        await day.told(alice, "a successor", f"{keys}/{narrow['id']}/rotate", {}, "secret")
        await alice.post(f"{keys}/{narrow['id']}/revoke")
        miner = await _enrolled(day, alice)
        await day.told(alice, "a token nobody used", "/api/v1/gpu/enrolment-tokens", {}, "token")
        await miner.beat()
        stored = await alice.post(
            "/api/v1/ai/artifacts", content=INPUT.encode(), headers={"Content-Type": "application/octet-stream"}
        )
        job = {"kind": "embed", "input": {"texts": [INPUT]}, "max_price": "0.05"}
        await alice.post("/api/v1/ai/quotes", json=job)
        made = await alice.post("/api/v1/ai/jobs", json=job, headers={"Idempotency-Key": "j"})
        [lease] = await miner.poll()
        day.take()  # the miner gets the input: it is to work on it
        lines = [{"sequence": 1, "at": "2030-01-01T00:00:00Z", "text": "half done"}]
        told = {"token": lease["token"], "lines": lines}
        await miner.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/log", json=told)
        await miner.beat(lease, busy=1)
        assert (await miner.deliver(lease)).status_code == 200
        done = (await alice.get(f"/api/v1/ai/jobs/{made.json()['id']}")).json()
        day.take()  # the owner sees the input of the job
        assert (done["state"], done["input"]) == ("succeeded", {"texts": [INPUT]})
        await alice.get(f"/api/v1/ai/artifacts/{stored.json()['id']}")
        day.take()  # and the file
        for path in (f"/jobs/{done['id']}/explain", f"/jobs/{done['id']}/logs", f"/jobs/{done['id']}/events", "/jobs"):
            await alice.get(f"/api/v1/ai{path}")
        await miner.client.aclose()


async def _enrolled(day: Day, alice: httpx.AsyncClient) -> HandMiner:
    key = Key.generate()
    token = (await day.told(alice, "a token", "/api/v1/gpu/enrolment-tokens", {}, "token"))["token"]
    body = {
        "token": token,
        "public_key": key.public,
        "proof": key.sign(canonical(enrolment_statement(token=token, public_key=key.public))),
        "name": "by hand",
        "slots": 1,
        "capabilities": {"kinds": ["embed"]},
    }
    async with day.client() as nobody:
        await nobody.post("/api/v1/gpu/enrolments", json=body | {"proof": "A" * 86})
        await nobody.post("/api/v1/gpu/enrolments", json=body | {"token": token[:-1] + "x"})
        enrolled = await day.told(nobody, "the miner's API key", "/api/v1/gpu/enrolments", body, "api_key")
        await nobody.post("/api/v1/gpu/enrolments", json=body | {"public_key": Key.generate().public})
    seed = key._secret[:32]
    day.secrets |= {"the miner's private key": seed.hex(), "the same in base 64": encode_bytes(seed)}
    return HandMiner(key, enrolled["miner"], day.client(enrolled["api_key"]))


async def _provoke(day: Day) -> None:
    """Everything that people do with a secret by mistake."""
    key = day.secrets["a key"]
    wrong = {"an unknown key": new_key("live"), "a cut key": key[:-1], "a stretched key": key + "0"}
    day.secrets |= wrong
    async with day.client() as nobody:
        for secret in wrong.values():
            await nobody.get("/api/v1/ai/jobs", headers={"Authorization": f"Bearer {secret}"})
            await nobody.get("/api/v1/ai/jobs", headers={"X-Api-Key": secret})
        await nobody.get(
            "/api/v1/ai/jobs", headers={"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}
        )
        await nobody.get("/api/v1/ai/jobs", headers={"Authorization": key})
    async with day.client(key) as alice:
        for slip in (key, day.secrets["a token nobody used"], INPUT):
            await _slipped(alice, slip)
            if slip != INPUT:  # whoever writes a text into a path or a header means it for all to see
                await _misplaced(alice, slip)


async def _slipped(alice: httpx.AsyncClient, slip: str) -> None:
    json_type = {"Content-Type": "application/json"}
    for body in (
        f'{{"kind": {slip}',
        f'"{slip}"',
        f'{{"{slip}": 1, "{slip}": 2}}',
        f"{slip}",
        f'{{"kind": "{slip}\x00"}}',
    ):
        answer = await alice.post(
            "/api/v1/ai/jobs", content=body.encode(), headers=json_type | {"Idempotency-Key": "b"}
        )
        assert answer.status_code >= 400
    job: dict[str, Any] = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}
    wishes: tuple[dict[str, Any], ...] = (
        {"kind": slip if slip != INPUT else "paint"},
        {"max_price": slip},
        {"input": {"texts": slip}},
        {"input": {"texts": [slip], "model": 5}},
        {"input": {"texts": [slip] * 300}},
        {"requirements": {"region": slip + "\n"}},
        {"priority": slip},
        {"input": {"texts": ["x"], "image": {"artifact": slip}}},
    )
    for number, wrong in enumerate(wishes):
        answer = await alice.post("/api/v1/ai/jobs", json=job | wrong, headers={"Idempotency-Key": f"w{number}"})
        assert answer.status_code >= 400, (wrong, answer.text)


async def _misplaced(alice: httpx.AsyncClient, slip: str) -> None:
    for path in (
        f"/api/v1/ai/jobs/{slip}",
        f"/{slip}",
        f"/api/v1/trading/search?q={slip}",
        f"/api/v1/ai/jobs?{slip}=1",
    ):
        assert (await alice.get(path)).status_code >= 400, path
    await alice.get(f"/api/v1/ai/jobs?cursor={slip}")
    await alice.get("/healthz", headers={"Host": slip})
    await alice.get("/healthz", headers={"Origin": f"http://{slip}"})
    await alice.get("/healthz", headers={"X-Request-ID": slip, "Traceparent": slip, "User-Agent": slip, "Cookie": slip})
    await alice.post("/api/v1/ai/artifacts", content=slip.encode(), headers={"Content-Type": f"text/{slip[:20]}"})
    await alice.post("/api/v1/gpu/enrolments", json={"token": slip})


async def _look(day: Day) -> None:
    """What an operator looks at afterwards."""
    async with day.client(day.server.admin_key) as admin:
        assert (await admin.get("/metrics")).status_code == 200
        for path in ("events", "audit", "places"):
            assert (
                await admin.get(f"/api/v1/operations/{path}", params={} if path == "places" else {"limit": 1000})
            ).status_code == 200
        for path in ("identity/keys", "identity/accounts", "gpu/miners", "ai/jobs", "trading/transactions"):
            assert (await admin.get(f"/api/v1/{path}")).json()["data"], path
        for path in ("/healthz", "/readyz", "/version", "/openapi.json", "/api/v1/trading/chain/export"):
            assert (await admin.get(path)).status_code == 200, path
