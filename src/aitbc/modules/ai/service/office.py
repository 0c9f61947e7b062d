"""What every part of the service stands on: the database, the neighbours, the gatherers, and those who wait."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import structlog
from msgspec import Meta, Struct

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.wakeup import Wakeup
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import end
from aitbc.modules.ai.api import Claim, JobNotFound, Lease
from aitbc.modules.ai.api import Job as JobView
from aitbc.modules.ai.batched.claim import Dealer
from aitbc.modules.ai.batched.complete import Accepted, Completion, complete_many
from aitbc.modules.ai.batched.read import Found, read_jobs, read_leases
from aitbc.modules.ai.batched.renew import Renewed, Renewing, renew_many
from aitbc.modules.ai.batched.submit import Submission, stored_answers, submit_many
from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.values import AttemptValue, JobValue
from aitbc.modules.ai.service.ended import EndedJobs
from aitbc.modules.ai.service.waiting import WaitingMiners, WatchedJobs
from aitbc.modules.trading.api import TradingApi

FALLBACK_SECONDS = 1.0
"""How often a waiting process looks for itself, in case nobody told it."""
DURATIONS_KEPT = 100

log = structlog.get_logger("aitbc.ai")


class AiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[ai]` table of the configuration."""

    hot: bool = True
    """Gather the commands of a busy market; off, each has a transaction of its own."""
    unit_prices: dict[str, int] = {}
    """The price of a unit by kind, in minor units of money, where it is not the kind's own."""
    artifact_bytes_max: int = 64 * 1024 * 1024
    """What one artifact may weigh."""
    artifact_quota_bytes: int = 1024 * 1024 * 1024
    """What the artifacts of one account may weigh together."""
    artifact_retention_seconds: int = 604_800
    """How long an artifact is kept after its upload."""
    open_jobs_per_account: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """How many jobs of one account may wait or be worked on at once."""
    grace_seconds: float = 35.0
    """After this process was frozen or just started: how long leases that seem to have ended are left alone."""


class Office:
    """The common ground of the parts of the service."""

    def __init__(
        self,
        db: Database,
        trading: TradingApi,
        settings: AiSettings | None = None,
        platform: Platform | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self.db = db
        self.trading = trading
        self.settings = settings or AiSettings()
        self.draining = platform.draining if platform is not None else asyncio.Event()
        self.webhooks = platform.webhooks if platform is not None else None
        self.files = (platform.state_dir if platform is not None else state_dir or Path()) / "artifacts"
        self.miners = WaitingMiners()
        self.watched = WatchedJobs()
        self.ended = EndedJobs()
        self.served: dict[str, int] = {}
        """By kind, the highest rank that miners have reached."""
        self.learning = asyncio.Lock()
        """Held while it is found out after a start."""
        self.durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=DURATIONS_KEPT))
        """By kind, how long recent successful attempts took."""
        self.paid: list[UUID] = []
        """Events of results that were paid at once: marked with the next batch of results."""
        self.dealer = Dealer(db, self.note_served)
        self.submissions: Batcher[Submission, JobView] = Batcher(self._submit_many)
        self.crowded: set[str] = set()
        """Accounts that were refused for their many open jobs: looked at before money is held for another."""
        self.answer_reads: Batcher[IdempotencyKey, JobView | None] = Batcher(lambda batch: stored_answers(db, batch))
        self.claims: Batcher[Claim, Sequence[Lease]] = Batcher(
            lambda batch: retry(lambda: self.dealer.claim_many(batch)), unheard=self._note_strays
        )
        self.strays: list[tuple[str, Lease]] = []
        """Leases, each with its miner, that were made for a claim whose caller had left."""
        self.leavings: set[asyncio.Task[None]] = set()
        """The stops of jobs whose clients left, under way."""
        self.renewals: Batcher[Renewing, Renewed] = Batcher(lambda batch: retry(lambda: renew_many(db, batch)))
        self.completions: Batcher[Completion, Accepted] = Batcher(
            lambda batch: retry(lambda: complete_many(db, batch, self.paid))
        )
        self.job_reads: Batcher[str, Found | None] = Batcher(lambda batch: read_jobs(db, batch), flights_max=2)
        self.lease_reads: Batcher[str, tuple[JobValue, AttemptValue] | None] = Batcher(
            lambda batch: read_leases(db, batch)
        )
        self._news = Wakeup(db, platform.bus if platform is not None else None)
        self._tasks: list[asyncio.Task[None]] = []

    def served_of(self, kind: str) -> int:
        """Where an empty lane of this kind begins."""
        return self.served.get(kind, 0)

    async def _submit_many(self, batch: Sequence[Submission]) -> list[JobView | AppError]:
        return await retry(
            lambda: submit_many(self.db, batch, self.served_of, open_max=self.settings.open_jobs_per_account)
        )

    def note_served(self, kind: str, rank: int) -> None:
        """A miner took a job of this rank."""
        self.served[kind] = max(self.served.get(kind, 0), rank)

    def _note_strays(self, claim: Claim, leases: Sequence[Lease]) -> None:
        self.strays += [(claim.miner, lease) for lease in leases]

    def unit_price(self, kind: Kind) -> int:
        """The price of one unit, in minor units of money."""
        return self.settings.unit_prices.get(kind.name, kind.unit_price_units)

    async def found(self, who: Principal, job: str) -> Found:
        """A job and its attempts, if the caller may see them. Raises `JobNotFound`."""
        if not ids.is_id("job", job):
            raise JobNotFound
        found = self.ended.get(job)
        if found is None:
            found = await self.job_reads.do(job)
            if found is not None:
                self.ended.keep(found)
        if found is None or not who.owns(found[0].account):
            raise JobNotFound
        return found

    def announce_work(self, jobs: Iterable[JobValue]) -> None:
        """Jobs were committed as waiting: wake miners here, and let other processes know."""
        self.miners.offer((needs_of(job.needs), job.id) for job in jobs)
        self._news.notify()

    def tell_paid(self, event: UUID, told: JobSucceeded) -> None:
        """A result was paid at once: its event need not go to the ledger any more, only to whoever hears it by a webhook."""
        if self.webhooks is None:
            self.paid.append(event)
        else:
            self.webhooks.deliver(event, told, self.paid.append)

    async def start(self) -> None:
        """Begin to listen to other processes, to look for oneself now and then, and to mind the end."""
        self._tasks = [
            asyncio.create_task(self._forever(self._look)),
            asyncio.create_task(self._forever(self._listen)),
            asyncio.create_task(self._forever(self._news.run_sender)),
            asyncio.create_task(self._end_waits()),
        ]

    async def stop(self) -> None:
        """End the background work."""
        await end(self._tasks)
        self._tasks = []

    async def _forever(self, work: Any) -> None:
        while True:
            try:
                await work()
            except AppError as error:
                log.warning("background_paused", work=work.__name__, reason=error.message)
            except Exception:
                log.exception("background_failed", work=work.__name__)
            await asyncio.sleep(FALLBACK_SECONDS)

    async def _look(self) -> None:
        """Look for what nobody told: jobs whose pause is over, or that another process wrote; and watched jobs."""
        if len(self.miners):
            for needs, count in await self.dealer.waiting(len(self.miners)):
                self.miners.offer_count(needs, count)
        if len(self.watched):
            self.watched.wake_all()

    async def _listen(self) -> None:
        """Hear of work that another process committed."""
        await self._news.listen(self._look)

    async def _end_waits(self) -> None:
        await self.draining.wait()
        self.miners.wake_all()
        self.watched.wake_all()
