"""The audit of payments: every job that is answered as succeeded must have a receipt."""

from datetime import timedelta
from uuid import UUID

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.api import TradingApi

PAGE = 2_000
NAMED_MAX = 100
SETTLING = timedelta(seconds=60)
"""How long a payment may be under way."""

SUCCEEDED = """
SELECT id FROM ai.jobs WHERE state = 'succeeded' AND completed_at < $1 AND id > $2 ORDER BY id LIMIT $3"""


class PaymentReport(Struct, frozen=True, kw_only=True):
    """The outcome of comparing the jobs that succeeded with the receipts."""

    ok: bool
    """Whether every job that succeeded has its receipt. For example `true`."""
    jobs: int
    """How many jobs were compared."""
    unpaid: int
    """How many of them have no receipt."""
    unpaid_jobs: tuple[str, ...]
    """Those, the oldest first; at most 100 of them."""


class PaymentAudit:
    """Compares the jobs that succeeded with the receipts that trading has."""

    def __init__(self, db: Database, trading: TradingApi) -> None:
        self._db = db
        self._trading = trading

    async def verify(self) -> PaymentReport:
        """Every job that succeeded more than a minute ago, from the oldest on."""
        before, last, jobs, unpaid = now() - SETTLING, UUID(int=0), 0, list[str]()
        while True:
            async with self._db.raw() as connection:
                rows = await connection.fetch(SUCCEEDED, before, last, PAGE)
            page = [ids.encode("job", row["id"]) for row in rows]
            paid = set(await self._trading.receipted(page)) if page else set()
            unpaid += [job for job in page if job not in paid]
            jobs += len(page)
            if len(page) < PAGE:
                break
            last = rows[-1]["id"]
        return PaymentReport(ok=not unpaid, jobs=jobs, unpaid=len(unpaid), unpaid_jobs=tuple(unpaid[:NAMED_MAX]))
