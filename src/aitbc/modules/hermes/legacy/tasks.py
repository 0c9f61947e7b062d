"""Tasks as the older agent coordinator had them: jobs of the caller, in its words."""

from collections import Counter
from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Job, SubmitFor
from aitbc.modules.hermes.legacy.caller import CALL_ONCE, READ, Hermes

COUNTED_MAX = 500
QUEUE_SECONDS = 900
OPTIONS = ("max_tokens", "temperature", "top_p", "seed")
TOKENS = 512


class SubmitTask(Struct, frozen=True, kw_only=True):
    """A question to a model."""

    task_data: dict[str, Any]


class TasksQuery(Struct, frozen=True, kw_only=True):
    """How many tasks are wanted."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 10


class LegacyTasks(Controller):
    """Jobs of the caller."""

    path = "/tasks"

    @post("/submit", status_code=201, opt=CALL_ONCE)
    async def submit(self, hermes: Hermes, who: Who, once: Once, data: JSONBody[SubmitTask]) -> dict[str, Any]:
        """Submit a chat for the most that it can cost; what it does not cost returns."""
        said = data.task_data
        prompt, options = said.get("prompt"), said.get("parameters", {})
        if not isinstance(prompt, str) or not prompt:
            raise invalid("/task_data/prompt", "Expected a text")
        if not isinstance(options, dict):
            raise invalid("/task_data/parameters", "Expected an object")
        work: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}
        work |= {name: options[name] for name in OPTIONS if name in options}
        if isinstance(said.get("model"), str) and said["model"]:
            work["model"] = said["model"]
        order = SubmitFor(
            account=who.account,
            key=who.key,
            kind="chat",
            input=work,
            max_price=None,
            queue_seconds=QUEUE_SECONDS,
            request_key=f"hermes:{once.key or ids.new_id('msg')}",
        )
        return {"message": "Task submitted"} | _task(await hermes.ai.submit_for(order), None)

    @get("/", opt=READ)
    async def all(self, hermes: Hermes, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """List the caller's jobs, the newest first."""
        jobs = await hermes.ai.recent_jobs(who.account, read_query(query, TasksQuery).limit)
        models = dict(await hermes.ai.models_of([job.id for job in jobs]))
        return [_task(job, models.get(job.id)) for job in jobs]

    @get("/status", opt=READ)
    async def status(self, hermes: Hermes, who: Who) -> dict[str, Any]:
        """How many of the caller's newest jobs are in which state."""
        jobs = await hermes.ai.recent_jobs(who.account, COUNTED_MAX)
        counts = Counter(job.state for job in jobs)
        return {
            "total_tasks": len(jobs),
            "queued": counts["queued"],
            "running": counts["leased"] + counts["running"],
            "completed": counts["succeeded"],
            "failed": counts["failed"] + counts["expired"],
            "cancelled": counts["canceled"],
        }


def _task(job: Job, model: str | None) -> dict[str, Any]:
    return {
        "task_id": job.id,
        "job_id": job.id,
        "model": model,
        "status": job.state,
        "priority": job.priority,
        "submitted_at": job.created_at.isoformat(),
    }
