"""Governance: proposals and votes, live parameters, one's stake and whom it is delegated to, the treasury."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

GOVERNANCE = "/api/v1/governance"
PAGE = 25
DAYS = 30
"""How far back a simulation and a report look."""
Cursor = Annotated[str, Meta(max_length=500)]
Days = Annotated[int, Meta(ge=1, le=365)]
Text = Annotated[str, Meta(max_length=100)]
State = Literal[
    "pending",
    "active",
    "succeeded",
    "defeated",
    "queued",
    "executed",
    "execution_failed",
    "cancelled",
    "vetoed",
    "expired",
]
InState = Annotated[State | None, QueryParameter(name="state")]
METHODS: Mapping[str, str] = {"vote": "PUT", "sponsor": "PUT", "cancel": "POST", "veto": "POST", "execute": "POST"}
"""What can be done to a proposal, and how the API is asked for it."""
MOVES = frozenset({"lock", "unlock"})


class ProposalPages(Controller):
    """Proposals."""

    path = "/proposals"
    include_in_schema = False

    @get("/", opt=READ)
    async def proposals(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """All proposals, newest first."""
        found = await visit.get(f"{GOVERNANCE}/proposals", state=in_state, limit=PAGE, cursor=cursor)
        return visit.page("governance/proposals.html", proposals=found, state=in_state, cli=["aitbc gov list"])

    @get("/new", opt=READ)
    async def new(self, visit: NamedDependency[Visit], name: FromQuery[Text | None] = None) -> Response[bytes]:
        """The form of a proposal; `name` is a parameter that it begins with."""
        return await _new_page(visit, name=name)

    @post("/new", opt=SEND)
    async def propose(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Propose something; a deposit is taken."""
        form = await visit.form()
        try:
            made = await visit.send(f"{GOVERNANCE}/proposals", _proposal(form), once=form.get("once") or None)
        except AppError as refusal:
            return await _new_page(visit, form=form, error=refusal)
        return see(f"/proposals/{made['id']}")

    @get("/parameters", opt=READ)
    async def numbers(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Every number that may change while everything runs, with its range and where its value comes from."""
        found = (await visit.get(f"{GOVERNANCE}/parameters"))["data"]
        return visit.page("governance/parameters.html", parameters=found, cli=["aitbc gov parameters"])

    @get("/{proposal:str}", opt=READ)
    async def proposal(
        self, visit: NamedDependency[Visit], proposal: FromPath[str], days: FromQuery[Days | None] = None
    ) -> Response[bytes]:
        """One proposal: tally, timeline, votes; with `days` also what it would have meant for the work of that time."""
        return await _proposal_page(visit, part(proposal), days=days)

    @post("/{proposal:str}/{action:str}", opt=SEND)
    async def act(
        self, visit: NamedDependency[Visit], proposal: FromPath[str], action: FromPath[str]
    ) -> Response[bytes]:
        """Vote on it, support it, take it back, stop it, or try its execution again."""
        form = await visit.form()
        if action not in METHODS:
            raise NotFound
        try:
            body = {"reason": form.get("reason")} if action in ("cancel", "veto") else None
            if action == "vote":
                body = _vote(form)
            await visit.send(f"{GOVERNANCE}/proposals/{part(proposal)}/{action}", body, method=METHODS[action])
        except AppError as refusal:
            return await _proposal_page(visit, proposal, error=refusal)
        return see(f"/proposals/{proposal}")


class StakePages(Controller):
    """One's power."""

    path = "/proposals/stake"
    include_in_schema = False

    @get("/", opt=READ)
    async def stake(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """What one could vote with now, who else votes with it, and what was locked and unlocked."""
        return await _stake_page(visit, cursor=cursor)

    @post("/delegations", opt=SEND)
    async def delegate(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Let others vote with shares of one's power, in place of those before."""
        form = await visit.form()
        try:
            await visit.send(f"{GOVERNANCE}/stake/delegations", {"shares": _shares(form)}, method="PUT")
        except AppError as refusal:
            return await _stake_page(visit, error=refusal)
        return see("/proposals/stake")

    @post("/{action:str}", opt=SEND)
    async def move(self, visit: NamedDependency[Visit], action: FromPath[str]) -> Response[bytes]:
        """Lock money, or take power back."""
        form = await visit.form()
        if action not in MOVES:
            raise NotFound
        try:
            body = {"amount": form.get("amount")}
            await visit.send(f"{GOVERNANCE}/stake/{action}", body, once=form.get("once") or None)
        except AppError as refusal:
            return await _stake_page(visit, error=refusal)
        return see("/proposals/stake")


class TreasuryPages(Controller):
    """The treasury."""

    path = "/proposals/treasury"
    include_in_schema = False

    @get("/", opt=READ)
    async def treasury(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """What it has and has promised, its budget, a report of the last month, and its moves."""
        at = now().replace(microsecond=0)
        return visit.page(
            "governance/treasury.html",
            treasury=await visit.get(f"{GOVERNANCE}/treasury"),
            report=await visit.get(
                f"{GOVERNANCE}/treasury/report", since=(at - timedelta(days=DAYS)).isoformat(), until=at.isoformat()
            ),
            moves=await visit.get(f"{GOVERNANCE}/treasury/moves", limit=PAGE, cursor=cursor),
            cli=["aitbc gov treasury", "aitbc gov payments"],
        )

    @post("/moves/{move:str}/approval", opt=SEND)
    async def approve(self, visit: NamedDependency[Visit], move: FromPath[str]) -> Response[bytes]:
        """Say that a milestone is reached."""
        await visit.form()
        await visit.send(f"{GOVERNANCE}/treasury/moves/{part(move)}/approval", method="PUT")
        return see("/proposals/treasury")


def _vote(form: Form) -> dict[str, Any]:
    """A vote, by what the ballot's form sends: a choice, options, or a weight or rank beside each. Raises `Invalid`."""
    body: dict[str, Any] = {"reason": form.get("reason")}
    if form.get("choice"):
        return body | {"choice": form.get("choice")}
    if form.get("option"):
        return body | {"options": [form.whole("option", "/options")]}
    numbered = {name: name.partition(":")[2] for name in form.fields if name.startswith(("weight:", "rank:", "tick:"))}
    given = {int(number): name for name, number in numbered.items() if number.isdigit() and form.get(name)}
    values = {number: form.whole(name, "/options") for number, name in given.items()}
    if any(name.startswith("rank:") for name in given.values()):
        return body | {"options": sorted(values, key=lambda number: values[number])}
    body["options"] = list(values)
    if any(name.startswith("weight:") for name in given.values()):
        body["weights"] = list(values.values())
    return body


def _proposal(form: Form) -> dict[str, Any]:
    """What is proposed: words, or other values of parameters. Raises `Invalid`."""
    body: dict[str, Any] = {"title": form.get("title"), "text": form.text("text"), "class": form.get("class")}
    if form.get("class") == "general":
        options = [line.strip() for line in form.text("options").splitlines() if line.strip()]
        return body | {"ballot": form.get("ballot") or "basic"} | ({"options": options} if options else {})
    actions: list[dict[str, Any]] = []
    for line in form.text("parameters").splitlines():
        name, mark, value = (text.strip() for text in line.partition("="))
        if not line.strip():
            continue
        if not mark or not (value == "operator" or value.lstrip("-").isdigit()):
            raise Invalid(fields=(FieldError("/parameters", "Expected NAME=NUMBER or NAME=operator on each line"),))
        actions.append({"do": "set_parameter", "name": name, "value": None if value == "operator" else int(value)})
    if form.get("pay_to"):
        pay = {"do": "pay", "to": form.get("pay_to"), "line": form.get("pay_line"), "amount": form.get("pay_amount")}
        actions.append(pay)
    return body | {"actions": actions}


def _shares(form: Form) -> list[dict[str, Any]]:
    """`ACCOUNT` or `ACCOUNT=PERCENT` on each line. Raises `Invalid`."""
    shares: list[dict[str, Any]] = []
    for line in form.text("shares").splitlines():
        account, mark, percent = (text.strip() for text in line.partition("="))
        if not account:
            continue
        try:
            shares.append({"to": account} | ({"basis_points": round(float(percent) * 100)} if mark else {}))
        except (ValueError, OverflowError):
            raise Invalid(fields=(FieldError("/shares", "Expected ACCOUNT=PERCENT on each line"),)) from None
    return shares


async def _new_page(
    visit: Visit, *, name: str | None = None, form: Form | None = None, error: AppError | None = None
) -> Response[bytes]:
    parameters = (await visit.get(f"{GOVERNANCE}/parameters"))["data"]
    begun = next((f"{one['name']}={one['value']}" for one in parameters if one["name"] == name), "")
    return visit.page(
        "governance/new.html",
        parameters=parameters,
        power=await visit.get(f"{GOVERNANCE}/stake"),
        values=form.fields if form else {"parameters": begun},
        is_filled=form is not None,
        once=(form.get("once") if form else "") or new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc gov propose 'Lower the fee' --set trading.fee_basis_points=200"],
    )


async def _proposal_page(
    visit: Visit, proposal: str, *, days: int | None = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{GOVERNANCE}/proposals/{proposal}")
    votes = await visit.get(f"{GOVERNANCE}/proposals/{proposal}/votes", limit=100)
    simulated = None
    if days is not None:
        simulated = await visit.get(f"{GOVERNANCE}/proposals/{proposal}/simulation", days=days)
    commands = [f"aitbc gov show {proposal}", f"aitbc gov votes {proposal}", f"aitbc gov simulate {proposal}"]
    return visit.page(
        "governance/proposal.html",
        proposal=found,
        votes=votes,
        own=next((one for one in votes["data"] if one["voter"] == visit.who.account), None),
        simulated=simulated,
        days=days or DAYS,
        error=error,
        status=error.status if error else 200,
        cli=[*commands, f"aitbc gov vote {proposal} for"] if found["state"] == "active" else commands,
    )


async def _stake_page(visit: Visit, *, cursor: str | None = None, error: AppError | None = None) -> Response[bytes]:
    return visit.page(
        "governance/stake.html",
        power=await visit.get(f"{GOVERNANCE}/stake"),
        moves=await visit.get(f"{GOVERNANCE}/stake/moves", limit=PAGE, cursor=cursor),
        balance=await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read"),
        once=new_uuid().hex,
        error=error,
        status=error.status if error else 200,
        cli=["aitbc stake show", "aitbc stake lock 500", "aitbc stake delegate ACCOUNT=5000"],
    )
