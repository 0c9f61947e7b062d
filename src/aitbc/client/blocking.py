"""The blocking client, with the standard library alone."""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

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


class _NoRedirects(HTTPRedirectHandler):
    """A key is sent to nobody but the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class Client:
    """One caller of one server, whose methods block.

    `url` and `key` are `AITBC_URL` and `AITBC_API_KEY` where they are not given; without either it is the server of
    this machine. Failures raise the error classes of the server (`aitbc.kernel.primitives.errors`), after up to four
    attempts where a repetition may help; commands carry an Idempotency-Key, so that a repeated one is done once.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        """`seconds` is how long one answer may take."""
        self.url, self._key = address(url, key)
        self._seconds = seconds
        self._opener = build_opener(_NoRedirects())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    def submit(self, kind: str, input: Mapping[str, Any], max_price: str, **wishes: Any) -> Job:  # noqa: A002
        """Submit a job of a kind; so much money in AITBC is held until it ends.

        `wishes` are the further fields of `SubmitJob`, and `once` the caller's own Idempotency-Key. Raises what the
        server refuses it for: `Invalid`, `InsufficientFunds`, `BudgetExceeded`, `RateLimited`, …
        """
        once = wishes.pop("once", None)
        job = SubmitJob(kind=kind, input=dict(input), max_price=max_price, **wishes)
        return self.do(operations.submit_job(job), once=once)

    def quote(self, kind: str, input: Mapping[str, Any], max_price: str = "1", **wishes: Any) -> Quote:  # noqa: A002
        """What a job would cost and who could take it; nothing is changed."""
        job = SubmitJob(kind=kind, input=dict(input), max_price=max_price, **wishes)
        return self.do(operations.quote_job(job))

    def job(self, job: str) -> JobDetail:
        """A job with its input, output and attempts. Raises `JobNotFound`."""
        return self.do(operations.get_job(job))

    def cancel(self, job: str) -> Job:
        """Cancel a job: its money goes back. Raises `JobNotFound`, `Conflict` for one that has ended."""
        return self.do(operations.cancel_job(job))

    def stop(self, job: str) -> Job:
        """Finish a job early: what was delivered until now is paid for."""
        return self.do(operations.stop_job(job))

    def explain(self, job: str) -> Explanation:
        """Why a job is where it is, and what would help."""
        return self.do(operations.explain_job(job))

    def wait(self, job: str) -> JobDetail:
        """The job once it has ended; it may then have failed as well: `state` says which."""
        for _ in self.follow(job):
            pass
        return self.job(job)

    def receipt(self, receipt: str) -> Receipt:
        """The receipt of a paid job, with the proof that it is in the chain."""
        return self.do(operations.get_receipt(receipt))

    def balance(self, account: str | None = None) -> AccountView:
        """What an account owns: without one, the caller's."""
        own = account or str((self.do(operations.whoami()))["account"])
        return self.do(operations.get_balance(own))

    def set_budget(
        self,
        limit: str,
        *,
        period: Literal["day", "month", "total"] = "month",
        key: str | None = None,
        model: str | None = None,
    ) -> BudgetView:
        """Limit what the caller's account spends in a period, in AITBC: by one key or on one model if wished."""
        return self.do(operations.make_budget(limit, period, key, model))

    def remove_budget(self, budget: str) -> BudgetView:
        """Limit nothing by a budget any more."""
        return self.do(operations.remove_budget(budget))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """The caller's jobs from the newest on, page by page as they are read."""
        return self._all(lambda cursor: operations.list_jobs(state, PAGE, cursor))

    def models(self, kind: str | None = None) -> Iterator[ModelInfo]:
        """The models that miners serve."""
        return self._all(lambda cursor: operations.list_models(kind, PAGE, cursor))

    def miners(self) -> Iterator[Miner]:
        """The caller's miners."""
        return self._all(lambda cursor: operations.list_miners(PAGE, cursor))

    def budgets(self) -> Iterator[BudgetView]:
        """The caller's budgets, with what counts against each now."""
        return self._all(lambda cursor: operations.list_budgets(PAGE, cursor))

    def market(self, wanted: str | None = None, *, sort: str | None = None) -> Iterator[MarketOffer]:
        """What can be had now, such as `vram >= 80GB and price < 1`."""
        return self._all(lambda cursor: operations.search_market(wanted, sort, PAGE, cursor))

    def do(self, call: Call[T], *, once: str | None = None) -> T:
        """Any call, with its retries. Raises `AppError`."""
        headers = call.headers(self._key, once=once)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                content = self._ask(call, headers)
                break
            except AppError as error:
                pause = pause_before(attempt, call, error)
                if pause is None:
                    raise
            time.sleep(pause)
        return call.decoded(content)

    def _all(self, page_at: Callable[[str | None], Call[Page[T]]]) -> Iterator[T]:
        cursor: str | None = None
        while True:
            page = self.do(page_at(cursor))
            yield from page.data
            cursor = page.next_cursor
            if not page.has_more or cursor is None:
                return

    def follow(self, job: str) -> Iterator[JobNews]:
        """What happens to a job from its beginning to its end; a connection that breaks is begun anew where it broke.

        Raises `JobNotFound`, and `Unavailable` where the server is away for long.
        """
        reader, failures = NewsReader(), 0
        while True:
            try:
                for news in self._news(job, reader):
                    failures = 0
                    yield news
                    if news.is_end:
                        return
            except AppError as error:
                if error.status != 503 or failures >= ATTEMPTS_MAX:
                    raise
            failures += 1
            time.sleep(PAUSE_SECONDS * 2.0**failures)

    def _news(self, job: str, reader: NewsReader) -> Iterator[JobNews]:
        call = Call("GET", operations.follow_job(job), dict[str, Any])
        with self._open(call, call.headers(self._key) | reader.headers, SILENT_SECONDS) as answer:
            try:
                for line in answer:
                    if (news := reader.feed(line.decode().rstrip("\r\n"))) is not None:
                        yield news
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self.url, error) from None

    def _ask(self, call: Call[Any], headers: Mapping[str, str]) -> bytes:
        with self._open(call, headers, self._seconds) as answer:
            try:
                return bytes(answer.read())
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self.url, error) from None

    def _open(self, call: Call[Any], headers: Mapping[str, str], seconds: float) -> Any:
        content, target = call.content(), self.url + call.target
        request = Request(target, content, dict(headers), method=call.method)  # noqa: S310 - its scheme was checked
        try:
            return self._opener.open(request, timeout=seconds)
        except HTTPError as refused:
            with refused:
                raise error_of(refused.code, dict(refused.headers), refused.read()) from None
        except (URLError, OSError, http.client.HTTPException) as error:
            raise unreachable(self.url, error) from None
