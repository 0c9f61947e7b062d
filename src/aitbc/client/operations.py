"""The operations of the API that the client has: each a call with its type, as `docs/openapi.json` describes them."""

from typing import Any, Literal

from aitbc.client.calls import Call, segment
from aitbc.kernel.primitives.pagination import Page
from aitbc.modules.ai.api import Job, JobDetail
from aitbc.modules.ai.models.prospects import Explanation, ModelInfo, Quote
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.gpu.api import Miner
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.trading.models.views import AccountView, BudgetView, Receipt

AI, GPU, TRADING = "/api/v1/ai", "/api/v1/gpu", "/api/v1/trading"


def submit_job(job: SubmitJob) -> Call[Job]:
    """Submit a job."""
    return Call("POST", f"{AI}/jobs", Job, job, once=True)


def quote_job(job: SubmitJob) -> Call[Quote]:
    """Ask what a job would cost; nothing is changed."""
    return Call("POST", f"{AI}/quotes", Quote, job, once=True)


def get_job(job: str) -> Call[JobDetail]:
    """Read a job with its input, output and attempts."""
    return Call("GET", f"{AI}/jobs/{segment(job)}", JobDetail)


def list_jobs(state: str | None, limit: int, cursor: str | None) -> Call[Page[Job]]:
    """A page of the caller's jobs from the newest on."""
    return Call("GET", f"{AI}/jobs", Page[Job], query={"state": state, "limit": limit, "cursor": cursor})


def cancel_job(job: str) -> Call[Job]:
    """Cancel a job: its money goes back."""
    return Call("POST", f"{AI}/jobs/{segment(job)}/cancel", Job, once=True)


def stop_job(job: str) -> Call[Job]:
    """Finish a job early: what was delivered until now is paid for."""
    return Call("POST", f"{AI}/jobs/{segment(job)}/stop", Job, once=True)


def explain_job(job: str) -> Call[Explanation]:
    """Ask why a job is where it is."""
    return Call("GET", f"{AI}/jobs/{segment(job)}/explain", Explanation)


def follow_job(job: str) -> str:
    """The path of a job's events."""
    return f"{AI}/jobs/{segment(job)}/events"


def list_models(kind: str | None, limit: int, cursor: str | None) -> Call[Page[ModelInfo]]:
    """A page of the models that miners serve."""
    return Call("GET", f"{AI}/models", Page[ModelInfo], query={"kind": kind, "limit": limit, "cursor": cursor})


def list_miners(limit: int, cursor: str | None) -> Call[Page[Miner]]:
    """A page of the caller's miners."""
    return Call("GET", f"{GPU}/miners", Page[Miner], query={"limit": limit, "cursor": cursor})


def get_receipt(receipt: str) -> Call[Receipt]:
    """Read the receipt of a paid job, with the proof that it is in the chain."""
    return Call("GET", f"{TRADING}/receipts/{segment(receipt)}", Receipt)


def search_market(wanted: str | None, sort: str | None, limit: int, cursor: str | None) -> Call[Page[MarketOffer]]:
    """A page of what can be had now."""
    query = {"filter": wanted, "sort": sort, "limit": limit, "cursor": cursor}
    return Call("GET", "/api/v1/marketplace/search", Page[MarketOffer], query=query)


def whoami() -> Call[dict[str, Any]]:
    """Who the key belongs to."""
    return Call("GET", "/api/v1/identity/keys/self", dict[str, Any])


def get_balance(account: str) -> Call[AccountView]:
    """What an account owns."""
    return Call("GET", f"{TRADING}/accounts/{segment(account)}", AccountView)


def list_budgets(limit: int, cursor: str | None) -> Call[Page[BudgetView]]:
    """A page of the caller's budgets."""
    return Call("GET", f"{TRADING}/budgets", Page[BudgetView], query={"limit": limit, "cursor": cursor})


def make_budget(
    limit: str, period: Literal["day", "month", "total"], key: str | None, model: str | None
) -> Call[BudgetView]:
    """Limit what the caller's account spends."""
    body = {"limit": limit, "period": period, "key": key, "model": model}
    return Call("POST", f"{TRADING}/budgets", BudgetView, body, once=True)


def remove_budget(budget: str) -> Call[BudgetView]:
    """Limit nothing by a budget any more."""
    return Call("DELETE", f"{TRADING}/budgets/{segment(budget)}", BudgetView)
