"""Agents: who can be called and at which price, runs with their steps, and a person's word where one waits."""

from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, attachment, faults_of, part, see

HERMES = "/api/v1/hermes"
PAGE = 25
ENDED = frozenset({"completed", "failed", "canceled", "rejected"})
Cursor = Annotated[str, Meta(max_length=500)]
Word = Annotated[str, Meta(max_length=100)]
State = Literal["submitted", "working", "input_required", "completed", "failed", "canceled", "rejected"]
InState = Annotated[State | None, QueryParameter(name="state")]
Own = Annotated[Literal["yes"] | None, QueryParameter(name="own")]


class AgentPages(Controller):
    """Agents."""

    path = "/agents"
    include_in_schema = False

    @get("/", opt=READ)
    async def agents(
        self,
        visit: NamedDependency[Visit],
        own: Own = None,
        tag: FromQuery[Word | None] = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Who can be called; or one's own, in whichever state."""
        found = await visit.get(f"{HERMES}/agents", own="true" if own else None, tag=tag, limit=PAGE, cursor=cursor)
        return visit.page("hermes/agents.html", agents=found, own=own, tag=tag, cli=["aitbc agent list"])

    @get("/{agent:str}", opt=READ)
    async def agent(self, visit: NamedDependency[Visit], agent: FromPath[str]) -> Response[bytes]:
        """One agent: its skills with their prices, and how its runs went."""
        found = await visit.get(f"{HERMES}/agents/{part(agent)}")
        runs = await visit.get(f"{HERMES}/runs", agent=agent, limit=10)
        return visit.page("hermes/agent.html", agent=found, runs=runs, cli=[f"aitbc agent show {agent}"])

    @get("/{agent:str}/skills/{skill:str}", opt=READ)
    async def skill(self, visit: NamedDependency[Visit], agent: FromPath[str], skill: FromPath[str]) -> Response[bytes]:
        """What a skill does and costs, and the form that calls it."""
        return await _skill_page(visit, part(agent), skill)

    @post("/{agent:str}/skills/{skill:str}", opt=SEND)
    async def call(self, visit: NamedDependency[Visit], agent: FromPath[str], skill: FromPath[str]) -> Response[bytes]:
        """Call a skill; its price is set aside."""
        form = await visit.form()
        try:
            body: dict[str, Any] = {"agent": part(agent), "skill": skill, "text": form.text("text")}
            body |= form.given("budget")
            if form.get("minutes"):
                body["wall_seconds"] = form.whole("minutes", "/wall_seconds") * 60
            run = await visit.send(f"{HERMES}/runs", body, once=form.get("once") or None)
        except AppError as refusal:
            return await _skill_page(visit, agent, skill, form=form, error=refusal)
        return see(f"/agents/runs/{run['id']}?sent={agent}")


class RunPages(Controller):
    """Runs of agents."""

    path = "/agents/runs"
    include_in_schema = False

    @get("/", opt=READ)
    async def runs(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """The runs that one pays, newest first."""
        found = await visit.get(f"{HERMES}/runs", state=in_state, limit=PAGE, cursor=cursor)
        return visit.page("hermes/runs.html", runs=found, state=in_state, cli=["aitbc agent runs"])

    @get("/{run:str}", opt=READ)
    async def run(
        self, visit: NamedDependency[Visit], run: FromPath[str], sent: FromQuery[Word | None] = None
    ) -> Response[bytes]:
        """One run: its steps, what each cost, and the question that waits for a person."""
        return await _run_page(visit, part(run), sent=sent)

    @post("/{run:str}/answer", opt=SEND)
    async def answer(self, visit: NamedDependency[Visit], run: FromPath[str]) -> Response[bytes]:
        """Let a run go on, or refuse."""
        form = await visit.form()
        try:
            body = {"step": form.whole("step"), "approve": form.get("do") == "approve", "note": form.get("note")}
            await visit.send(f"{HERMES}/runs/{part(run)}/answer", body)
        except AppError as refusal:
            return await _run_page(visit, run, error=refusal)
        return see(f"/agents/runs/{run}")

    @post("/{run:str}/cancel", opt=SEND)
    async def cancel(self, visit: NamedDependency[Visit], run: FromPath[str]) -> Response[bytes]:
        """End a run and everything below it."""
        await visit.form()
        try:
            await visit.send(f"{HERMES}/runs/{part(run)}/cancel")
        except AppError as refusal:
            return await _run_page(visit, run, error=refusal)
        return see(f"/agents/runs/{run}")

    @get("/{run:str}/receipt", opt=READ)
    async def receipt(self, visit: NamedDependency[Visit], run: FromPath[str]) -> Response[bytes]:
        """The receipt of a run, byte for byte as the API gives it."""
        content = await visit.content(f"{HERMES}/runs/{part(run)}/receipt")
        return Response(content, media_type="application/json", headers=attachment(f"{run}.json"))


async def _skill_page(
    visit: Visit, agent: str, skill: str, *, form: Form | None = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{HERMES}/agents/{agent}")
    shown = next((one for one in found["skills"] if one["id"] == skill), None)
    if shown is None:
        raise NotFound("This agent has no such skill.")
    return visit.page(
        "hermes/skill.html",
        agent=found,
        skill=shown,
        balance=await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read"),
        values=form.fields if form else {},
        once=(form.get("once") if form else "") or new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=[f"aitbc agent run {agent} 'TEXT' --skill {skill} --dry-run", f"aitbc agent run {agent} 'TEXT'"],
    )


async def _run_page(
    visit: Visit, run: str, *, sent: str | None = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{HERMES}/runs/{run}")
    is_open = found["state"] not in ENDED
    commands = [f"aitbc agent status {run}", f"aitbc agent {'cancel' if is_open else 'receipt'} {run}"]
    waiting = next((one for one in found["steps"] if one["state"] == "waiting" and one["question"]), None)
    return visit.page(
        "hermes/run.html",
        run=found,
        is_open=is_open,
        is_payer=found["account"] == visit.who.account,
        waiting=waiting if is_open else None,
        sent=sent,
        error=error,
        status=error.status if error else 200,
        cli=[*commands, f"aitbc agent approve {run}"] if waiting else commands,
    )
