"""Builders for the tests of ai: a service over a database of its own, owners with money, and miners that work."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import asyncpg
import msgspec

from aitbc.kernel.crypto.signing import Key, canonical, value_digest, work_statement
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.identity.principal import EVERYTHING, Principal
from aitbc.kernel.identity.tables import ApiKey
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Capabilities, Claim, Clocks, Failure, Lease, Outcome, Renewal, Result
from aitbc.modules.ai.models.devices import LeasableDevice
from aitbc.modules.ai.models.submit_job import Requirements, RetryPolicy, SubmitJob
from aitbc.modules.ai.models.tables import Base
from aitbc.modules.ai.service import AiService, AiSettings
from aitbc.modules.gpu.events import MinerChanged
from tests.modules.trading.fake import FakeTrading
from tests.postgres import ISOLATION
from tests.roles import ROLE_SCOPES

AITBC = 10**8
ADMIN = Principal(
    account=ids.new_id("acct"), key=ids.new_id("key"), kind="admin", scopes=frozenset({EVERYTHING}), subject=None
)
MISCOUNTED = """
    SELECT account FROM (SELECT account, count(*) AS written,
        count(*) FILTER (WHERE state NOT IN ('queued', 'leased', 'running')) AS over FROM ai.jobs GROUP BY account) j
    FULL JOIN (SELECT account, sum(jobs) FILTER (WHERE NOT ended) AS submitted,
        coalesce(sum(jobs) FILTER (WHERE ended), 0) AS ended FROM ai.job_counts GROUP BY account) c USING (account)
    WHERE coalesce(written, 0) <> submitted OR submitted IS NULL OR coalesce(over, 0) <> ended"""
"""Accounts whose jobs are counted otherwise than they are."""
ALL_KINDS = ("embed", "ocr", "chat", "command")


class Market:
    """A service, its ledger, and its database for a look."""

    def __init__(self, ai: AiService, trading: FakeTrading, owner: Target) -> None:
        self.ai, self.trading, self.owner = ai, trading, owner

    def person(self, units: int = 100 * AITBC) -> Principal:
        """Somebody with money."""
        who = Principal(
            account=ids.new_id("acct"), key=ids.new_id("key"), kind="live", scopes=ROLE_SCOPES["live"], subject=None
        )
        self.trading.fund(who.account, units)
        return who

    async def submit(self, who: Principal, once: IdempotencyKey | None = None, **wishes: Any) -> str:
        """A job of this owner; answers its id."""
        return (await self.ai.submissions.submit(who, a_job(**wishes), once or a_key(who))).id

    async def sql(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """A look into the database, or a hand in it."""
        return await POOLS.sql(self.owner, statement, *values)

    async def state(self, job: str) -> str:
        """Where a job is."""
        (row,) = await self.sql("SELECT state FROM ai.jobs WHERE id = $1", ids.decode("job", job))
        return str(row["state"])

    async def later(self, seconds: float) -> None:
        """Let time pass, and the sweep do its round."""
        clock.move(timedelta(seconds=seconds))
        await self.ai.sweep()

    async def require_sound(self) -> None:
        """What must hold of every job, whatever happened: SQL's own audit, and the money's."""
        assert await self.sql("SELECT id FROM ai.jobs WHERE started_at < created_at OR completed_at < started_at") == []
        assert (
            await self.sql(
                "SELECT j.id FROM ai.jobs j JOIN ai.attempts a ON a.job = j.id WHERE a.ended = 'succeeded' "
                "GROUP BY j.id HAVING count(*) > max(j.copies)"
            )
            == []
        )
        lonely = (
            "SELECT a.id FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job WHERE a.ended IS NULL AND ("
            "(j.attempt IS DISTINCT FROM a.id AND strpos(j.verification, 'quorum') = 0) "
            "OR j.state NOT IN ('queued', 'leased', 'running'))"
        )
        assert await self.sql(lonely) == []
        assert await self.sql(MISCOUNTED) == []
        for row in await self.sql("SELECT id, state, reason, price_units FROM ai.jobs"):
            hold = self.trading.holds[ids.encode("hold", row["id"])]
            assert row["reason"] != "hold_expired" or hold.state == "expired"
            expected = {
                "failed": "expired" if row["reason"] == "hold_expired" else "voided",
                "succeeded": "settled",
                "queued": "open",
                "leased": "open",
                "running": "open",
            }
            assert hold.state == expected.get(row["state"], "voided"), (row["state"], hold.state)
            assert (row["state"] == "succeeded") == (hold.id in self.trading.settlements)


class Worker:
    """A miner by hand."""

    def __init__(self, market: Market, **capabilities: Any) -> None:
        self.market = market
        self.id = ids.new_id("mnr")
        self.account = ids.new_id("acct")
        self.key = Key.generate()
        self.newcomer = bool(capabilities.pop("newcomer", False))
        self.reputation = float(capabilities.pop("reputation", 0.5))
        self.capabilities = Capabilities(**({"kinds": ALL_KINDS, "programs": ("wc",)} | capabilities))

    @property
    def principal(self) -> Principal:
        """The miner's own key."""
        return Principal(
            account=self.account, key=ids.new_id("key"), kind="miner", scopes=ROLE_SCOPES["miner"], subject=self.id
        )

    async def claim(
        self, slots: int = 1, wait_seconds: float = 0.0, total: int | None = None, **more: Any
    ) -> list[Lease]:
        """Ask for work; `total` bounds what it works on at once."""
        claim = Claim(
            miner=self.id,
            miner_account=self.account,
            capabilities=self.capabilities,
            slots=slots,
            wait_seconds=wait_seconds,
            newcomer=self.newcomer,
            reputation=self.reputation,
            slots_total=total,
            **more,
        )
        return list(await self.market.ai.claim(claim))

    async def take(self) -> Lease:
        """The one job that waits."""
        (lease,) = await self.claim()
        return lease

    async def renew(self, lease: Lease, progress: float | None = None) -> str:
        """Show a sign of work; answers what became of the lease."""
        renewal = Renewal(attempt=lease.attempt, token=lease.token, progress=progress)
        (status,) = await self.market.ai.renew(self.id, [renewal])
        return status.status

    def result(self, lease: Lease, output: Any = None, **changes: Any) -> Result:
        """A signed result."""
        output = embedding(len(lease.input["texts"])) if output is None else output
        digest = value_digest(output)
        statement = work_statement(
            job=lease.job,
            attempt=lease.attempt,
            token=lease.token,
            miner=self.id,
            kind=lease.kind,
            input_digest=lease.input_digest,
            output_digest=digest,
        )
        fields: dict[str, Any] = {
            "miner": self.id,
            "miner_key": self.key.public,
            "attempt": lease.attempt,
            "token": lease.token,
            "output": output,
            "output_digest": digest,
            "usage": {},
            "signature": self.key.sign(canonical(statement)),
        }
        return Result(**(fields | changes))

    async def deliver(self, lease: Lease, output: Any = None, **changes: Any) -> Outcome:
        """Bring a result."""
        return await self.market.ai.complete(self.result(lease, output, **changes))

    async def fail(self, lease: Lease, fault: str, reason: str = "broken", message: str = "It broke.") -> Outcome:
        """Give up on an attempt."""
        return await self.market.ai.fail(
            Failure(
                miner=self.id, attempt=lease.attempt, token=lease.token, fault=fault, reason=reason, message=message
            )
        )

    def changed(
        self,
        version: int = 1,
        status: str = "online",
        reason: str | None = None,
        devices: Sequence[LeasableDevice] = (),
    ) -> MinerChanged:
        """What gpu tells of this miner."""
        offer = self.capabilities
        return MinerChanged(
            miner=self.id,
            account=self.account,
            version=version,
            status=status,
            status_reason=reason,
            kinds=offer.kinds,
            models=offer.models,
            model_facts={name: msgspec.to_builtins(facts) for name, facts in offer.model_facts.items()},
            programs=offer.programs,
            device=offer.device,
            gpu_models=offer.gpu_models,
            vram_mib=offer.vram_mib,
            region=offer.region,
            devices=tuple(msgspec.to_builtins(one) for one in devices),
            slots=1,
            changed_at=now(),
        )


def embedding(texts: int, dimensions: int = 4) -> dict[str, Any]:
    """An output of the embed kind."""
    vectors = [[0.5, -0.25, 0.125, 1e-7][:dimensions] for _ in range(texts)]
    return {"model": "tiny", "dimensions": dimensions, "vectors": vectors, "weights": "sha256:00"}


def a_job(
    texts: int = 1,
    *,
    kind: str = "embed",
    value: Mapping[str, Any] | None = None,
    max_price: str = "0.05",
    priority: Any = "normal",
    clocks: Mapping[str, int] | None = None,
    retry: Mapping[str, Any] | None = None,
    **requirements: Any,
) -> SubmitJob:
    """A job to submit."""
    return SubmitJob(
        kind=kind,
        input=dict(value) if value is not None else {"texts": [f"text {number}" for number in range(texts)]},
        max_price=max_price,
        priority=priority,
        clocks=Clocks(**(clocks or {})),
        retry=RetryPolicy(**(retry or {})),
        requirements=Requirements(**requirements),
    )


def a_key(who: Principal, key: str | None = None, fingerprint: bytes = b"f") -> IdempotencyKey:
    """An Idempotency-Key of this caller."""
    return IdempotencyKey(who.account, key or ids.new_id("key"), fingerprint)


class Keys:
    """The API keys of everybody: all are live that were not revoked here."""

    revoked: ClassVar[set[str]] = set()

    async def key(self, who: Principal, key: str) -> ApiKey:
        """One of them."""
        return ApiKey(
            id=key,
            account=who.account,
            kind="live",
            name="",
            prefix="",
            scopes=(),
            subject=None,
            created_at=now(),
            expires_at=now() + timedelta(days=1),
            revoked_at=now() if key in self.revoked else None,
        )


class Pools:
    """Connections that the tests of a file share: a `Database`, for one service at a time, and some of the owner's."""

    def __init__(self) -> None:
        self._idle: dict[str, Database] = {}
        self._owners: dict[str, asyncpg.Pool[asyncpg.Record]] = {}

    @asynccontextmanager
    async def database(self, owner: Target) -> AsyncIterator[Database]:
        """The module's way into a database."""
        db = self._idle.pop(owner.database, None) or _database(owner)
        try:
            yield db
        finally:
            if self._idle.setdefault(owner.database, db) is not db:
                await db.close()

    async def sql(self, owner: Target, statement: str, *values: Any) -> list[asyncpg.Record]:
        """A statement of the owner's."""
        if owner.database not in self._owners:
            arguments = owner.connect_arguments(application="tests", statement_seconds=60)
            self._owners[owner.database] = await asyncpg.create_pool(min_size=0, max_size=3, **arguments)
        return list(await self._owners[owner.database].fetch(statement, *values))

    async def close(self) -> None:
        """Close all of them."""
        while self._idle:
            await self._idle.popitem()[1].close()
        while self._owners:
            await self._owners.popitem()[1].close()


POOLS = Pools()


def _database(owner: Target) -> Database:
    role = Target(host=owner.host, port=owner.port, user="aitbc_ai", database=owner.database)
    # At the strictest isolation a crowd takes turns, which costs time and no more.
    patience = 20.0 if ISOLATION == "serializable" else 2.0
    return Database("ai", role, list(Base.metadata.tables.values()), acquire_seconds=patience)


@asynccontextmanager
async def ai_on(
    owner: Target,
    *,
    trading: FakeTrading | None = None,
    state_dir: Path | None = None,
    started: bool = False,
    hooks: Hooks | None = None,
    **settings: Any,
) -> AsyncIterator[Market]:
    """A service over a migrated database, new for each test; its connections are not."""
    ledger = trading or FakeTrading()
    platform: Any = SimpleNamespace(
        state_dir=state_dir or Path(), draining=asyncio.Event(), webhooks=None, bus=None, parameters=Parameters()
    )
    platform.hooks = hooks or Hooks()
    platform.identity = Keys()
    async with POOLS.database(owner) as db:
        ai = AiService(db, ledger, platform, AiSettings(**({"grace_seconds": 0.0} | settings)))
        if started:
            await ai.start()
        try:
            yield Market(ai, ledger, owner)
        finally:
            await ai.stop()
