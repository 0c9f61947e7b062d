"""Miners and GPUs: what one has, how each does, and adding one."""

from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.web.visit import READ, SEND, Visit, part, see

GPU = "/api/v1/gpu"
PAGE = 50
RECEIPTS = 10
TOKEN_SECONDS = 3600
Cursor = Annotated[str, Meta(max_length=500)]
CODE_LENGTH_MAX = 40
Code = Annotated[str, Meta(max_length=CODE_LENGTH_MAX)]


class MinerPages(Controller):
    """Miners."""

    path = "/miners"
    include_in_schema = False

    @get("/", opt=READ)
    async def miners(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """One's own miners, for an operator all; and the GPUs that are for rent."""
        return visit.page(
            "gpu/miners.html",
            miners=await visit.get(f"{GPU}/miners", limit=PAGE, cursor=cursor),
            listings=await visit.get(f"{GPU}/listings", limit=PAGE),
            cli=["aitbc miner list", "aitbc gpu list"],
        )

    @get("/enrol", opt=READ)
    async def enrol(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """How a machine becomes a miner."""
        return visit.page("gpu/enrol.html", token=None, cli=["aitbc miner token"])

    @post("/enrol", opt=SEND)
    async def token(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Make a token for one machine; it is shown on the answer, once."""
        await visit.form()
        made: Any = await visit.send(f"{GPU}/enrolment-tokens", {"expires_seconds": TOKEN_SECONDS})
        return visit.page("gpu/enrol.html", token=made, cli=["aitbc miner token"])

    @get("/approve", opt=READ)
    async def asked(self, visit: NamedDependency[Visit], code: FromQuery[Code | None] = None) -> Response[bytes]:
        """The machine that shows a code, or a field for the code."""
        return await _approval(visit, code)

    @post("/approve", opt=SEND)
    async def answer(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Let the machine that shows a code in, or not."""
        form = await visit.form()
        code = form.get("code")[:CODE_LENGTH_MAX]
        act = {"approve": "approve", "deny": "deny"}.get(form.get("do"))
        if act is None:
            return await _approval(visit, code)
        try:
            await visit.send(f"{GPU}/enrolment-codes/{part(code)}/{act}")
        except AppError as refusal:
            return await _approval(visit, code, error=refusal)
        return await _approval(visit, code)

    @get("/{miner:str}", opt=READ)
    async def miner(self, visit: NamedDependency[Visit], miner: FromPath[str]) -> Response[bytes]:
        """One miner: devices, earnings, reputation, paid work."""
        found = await visit.get(f"{GPU}/miners/{part(miner)}")
        reputation = await visit.get(f"{GPU}/miners/{miner}/reputation")
        receipts = await visit.maybe("/api/v1/trading/receipts", scope="chain:read", miner=miner, limit=RECEIPTS)
        return visit.page(
            "gpu/miner.html",
            miner=found,
            earnings=await visit.get(f"{GPU}/miners/{miner}/earnings"),
            why=await visit.get(f"{GPU}/miners/{miner}/why"),
            reputation=reputation,
            chart={"good": [day["good"] for day in sorted(reputation["days"], key=lambda day: str(day["day"]))]},
            receipts=receipts["data"] if receipts else [],
            cli=[f"aitbc miner {command} {miner}" for command in ("show", "earnings", "why", "reputation", "drain")],
        )

    @post("/{miner:str}/drain", opt=SEND)
    async def drain(self, visit: NamedDependency[Visit], miner: FromPath[str]) -> Response[bytes]:
        """Let a miner finish what it has, and take no more."""
        await visit.form()
        await visit.send(f"{GPU}/miners/{part(miner)}/drain", {})
        return see(f"/miners/{miner}")

    @post("/{miner:str}/resume", opt=SEND)
    async def resume(self, visit: NamedDependency[Visit], miner: FromPath[str]) -> Response[bytes]:
        """Have a draining miner take work again."""
        await visit.form()
        await visit.send(f"{GPU}/miners/{part(miner)}/resume")
        return see(f"/miners/{miner}")


async def _approval(visit: Visit, code: str | None, *, error: AppError | None = None) -> Response[bytes]:
    """The machine behind a code, with what became of it; a field for the code where none is known."""
    machine: Any = None
    if code and error is None:
        try:
            machine = await visit.get(f"{GPU}/enrolment-codes/{part(code)}")
        except NotFound as refusal:
            error = refusal
    return visit.page(
        "gpu/approve.html",
        machine=machine,
        code=code or "",
        error=error,
        status=error.status if error else 200,
        cli=[f"aitbc miner approve {machine['code'] if machine else 'CODE'}"],
    )
