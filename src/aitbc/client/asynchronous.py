"""The asynchronous client, over aiohttp."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, Self

import aiohttp

from aitbc.client import operations
from aitbc.client.calls import (
    ANSWER_SECONDS,
    ATTEMPTS_MAX,
    PAUSE_SECONDS,
    Call,
    T,
    address,
    error_of,
    pause_before,
    unreachable,
)
from aitbc.client.events import JobNews, NewsReader
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.pagination import Page
from aitbc.modules.ai.api import Job, JobDetail
from aitbc.modules.ai.models.prospects import Explanation, ModelInfo, Quote
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.gpu.api import Miner
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.trading.models.views import AccountView, BudgetView, Receipt

PAGE = 200
SILENT_SECONDS = 60.0
"""A stream says something every 15 s: one that is silent for so long is lost, and begun anew where it broke."""


class AsyncClient:
    """One caller of one server, whose methods are coroutines.

    `url` and `key` are `AITBC_URL` and `AITBC_API_KEY` where they are not given; without either it is the server of
    this machine. Failures raise the error classes of the server (`aitbc.kernel.primitives.errors`), after up to four
    attempts where a repetition may help; commands carry an Idempotency-Key, so that a repeated one is done once.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        """`seconds` is how long one answer may take."""
        self.url, self._key = address(url, key)
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that are kept."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def submit(self, kind: str, input: Mapping[str, Any], max_price: str, **wishes: Any) -> Job:  # noqa: A002
        """Submit a job of a kind; so much money in AITBC is held until it ends.

        `wishes` are the further fields of `SubmitJob`, and `once` the caller's own Idempotency-Key. Raises what the
        server refuses it for: `Invalid`, `InsufficientFunds`, `BudgetExceeded`, `RateLimited`, …
        """
        once = wishes.pop("once", None)
        job = SubmitJob(kind=kind, input=dict(input), max_price=max_price, **wishes)
        return await self.do(operations.submit_job(job), once=once)

    async def quote(self, kind: str, input: Mapping[str, Any], max_price: str = "1", **wishes: Any) -> Quote:  # noqa: A002
        """What a job would cost and who could take it; nothing is changed."""
        job = SubmitJob(kind=kind, input=dict(input), max_price=max_price, **wishes)
        return await self.do(operations.quote_job(job))

    async def job(self, job: str) -> JobDetail:
        """A job with its input, output and attempts. Raises `JobNotFound`."""
        return await self.do(operations.get_job(job))

    async def cancel(self, job: str) -> Job:
        """Cancel a job: its money goes back. Raises `JobNotFound`, `Conflict` for one that has ended."""
        return await self.do(operations.cancel_job(job))

    async def stop(self, job: str) -> Job:
        """Finish a job early: what was delivered until now is paid for."""
        return await self.do(operations.stop_job(job))

    async def explain(self, job: str) -> Explanation:
        """Why a job is where it is, and what would help."""
        return await self.do(operations.explain_job(job))

    async def wait(self, job: str) -> JobDetail:
        """The job once it has ended; it may then have failed as well: `state` says which."""
        async for _ in self.follow(job):
            pass
        return await self.job(job)

    async def receipt(self, receipt: str) -> Receipt:
        """The receipt of a paid job, with the proof that it is in the chain."""
        return await self.do(operations.get_receipt(receipt))

    async def balance(self, account: str | None = None) -> AccountView:
        """What an account owns: without one, the caller's."""
        own = account or str((await self.do(operations.whoami()))["account"])
        return await self.do(operations.get_balance(own))

    async def set_budget(
        self,
        limit: str,
        *,
        period: Literal["day", "month", "total"] = "month",
        key: str | None = None,
        model: str | None = None,
    ) -> BudgetView:
        """Limit what the caller's account spends in a period, in AITBC: by one key or on one model if wished."""
        return await self.do(operations.make_budget(limit, period, key, model))

    async def remove_budget(self, budget: str) -> BudgetView:
        """Limit nothing by a budget any more."""
        return await self.do(operations.remove_budget(budget))

    def jobs(self, state: str | None = None) -> AsyncIterator[Job]:
        """The caller's jobs from the newest on, page by page as they are read."""
        return self._all(lambda cursor: operations.list_jobs(state, PAGE, cursor))

    def models(self, kind: str | None = None) -> AsyncIterator[ModelInfo]:
        """The models that miners serve."""
        return self._all(lambda cursor: operations.list_models(kind, PAGE, cursor))

    def miners(self) -> AsyncIterator[Miner]:
        """The caller's miners."""
        return self._all(lambda cursor: operations.list_miners(PAGE, cursor))

    def budgets(self) -> AsyncIterator[BudgetView]:
        """The caller's budgets, with what counts against each now."""
        return self._all(lambda cursor: operations.list_budgets(PAGE, cursor))

    def market(self, wanted: str | None = None, *, sort: str | None = None) -> AsyncIterator[MarketOffer]:
        """What can be had now, such as `vram >= 80GB and price < 1`."""
        return self._all(lambda cursor: operations.search_market(wanted, sort, PAGE, cursor))

    async def do(self, call: Call[T], *, once: str | None = None) -> T:
        """Any call, with its retries. Raises `AppError`."""
        headers = call.headers(self._key, once=once)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                content = await self._ask(call, headers)
                break
            except AppError as error:
                pause = pause_before(attempt, call, error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
        return call.decoded(content)

    async def _all(self, page_at: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            page = await self.do(page_at(cursor))
            for item in page.data:
                yield item
            cursor = page.next_cursor
            if not page.has_more or cursor is None:
                return

    async def follow(self, job: str) -> AsyncIterator[JobNews]:
        """What happens to a job from its beginning to its end; a connection that breaks is begun anew where it broke.

        Raises `JobNotFound`, and `Unavailable` where the server is away for long.
        """
        reader, failures = NewsReader(), 0
        while True:
            try:
                async with aclosing(self._news(job, reader)) as told:
                    async for news in told:
                        failures = 0
                        yield news
                        if news.is_end:
                            return
            except AppError as error:
                if error.status != 503 or failures >= ATTEMPTS_MAX:
                    raise
            failures += 1
            await asyncio.sleep(PAUSE_SECONDS * 2.0**failures)

    async def _news(self, job: str, reader: NewsReader) -> AsyncGenerator[JobNews, None]:
        call = Call("GET", operations.follow_job(job), dict[str, Any])
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENT_SECONDS)
        async with self._open(call, call.headers(self._key) | reader.headers, timeout) as answer:
            async for line in answer.content:
                if (news := reader.feed(line.decode().rstrip("\r\n"))) is not None:
                    yield news

    async def _ask(self, call: Call[Any], headers: Mapping[str, str]) -> bytes:
        async with self._open(call, headers, aiohttp.ClientTimeout(total=self._seconds)) as answer:
            return await answer.read()

    @asynccontextmanager
    async def _open(
        self, call: Call[Any], headers: Mapping[str, str], patience: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=True)
        asked = self._session.request(
            call.method,
            self.url + call.target,
            data=call.content(),
            headers=headers,
            timeout=patience,
            allow_redirects=False,
        )
        try:
            async with asked as answer:
                if answer.status >= 300:
                    raise error_of(answer.status, answer.headers, await answer.read())
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(self.url, error) from None
