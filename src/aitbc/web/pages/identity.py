"""One's own account: balance, spending, keys, and the browsers that are signed in."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.money import parse, render
from aitbc.web.visit import READ, SEND, Visit, part, see

IDENTITY = "/api/v1/identity"
DAYS = 14
RECEIPTS_MAX = 1000
PAGE = 25
DAY_SECONDS = 86_400
Cursor = Annotated[str, Meta(max_length=500)]


class AccountPages(Controller):
    """The account at a glance."""

    path = "/account"
    include_in_schema = False

    @get("/", opt=READ)
    async def account(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Who is signed in, what they own, and what they spent by day and kind."""
        me = await visit.get(f"{IDENTITY}/keys/self")
        balance = await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read")
        return visit.page(
            "identity/account.html",
            me=me,
            balance=balance,
            spending=await _spending(visit) if visit.who.may("chain:read") else None,
            once=new_uuid().hex,
            faucet=visit.who.may("faucet:use") and not visit.who.is_admin,
            cli=["aitbc account show", "aitbc receipt list", "aitbc faucet 1"],
        )

    @post("/faucet", opt=SEND)
    async def faucet(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Take play money, where the operator gives some."""
        form = await visit.form()
        await visit.send("/api/v1/trading/faucet", {"amount": form.get("amount")}, once=form.get("once") or None)
        return see("/account")


async def _spending(visit: Visit) -> dict[str, Any]:
    """What the account paid in the last days, from its receipts."""
    first = now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    by_day: dict[int, list[int]] = defaultdict(list)
    by_kind: dict[str, list[int]] = defaultdict(list)
    cursor, read, more = None, 0, True
    while more and read < RECEIPTS_MAX:
        page = await visit.get("/api/v1/trading/receipts", payer=visit.who.account, limit=100, cursor=cursor)
        fresh = [one for one in page["data"] if datetime.fromisoformat(one["issued_at"]) >= first]
        for one in fresh:
            price = parse(one["price"], zero=True)
            by_day[(datetime.fromisoformat(one["issued_at"]) - first).days].append(price)
            by_kind[one["kind"]].append(price)
        read += len(fresh)
        cursor, more = page["next_cursor"], page["has_more"] and len(fresh) == len(page["data"])
    days = [_line(f"{first + timedelta(days=day):%Y-%m-%d}", by_day[day]) for day in range(DAYS)]
    return {
        "days": days if read else [],
        "kinds": [_line(kind, prices) for kind, prices in sorted(by_kind.items())],
        "total": render(sum(map(sum, by_day.values()))),
        "jobs": read,
        "cut": more,
    }


def _line(label: str, prices: list[int]) -> dict[str, Any]:
    return {"label": label, "jobs": len(prices), "spent": render(sum(prices)), "value": float(sum(prices))}


class KeyPages(Controller):
    """The keys of one's account."""

    path = "/account/keys"
    include_in_schema = False

    @get("/", opt=READ)
    async def keys(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """The keys, and the form for a new one."""
        return await _keys_page(visit, cursor=cursor)

    @post("/", opt=SEND)
    async def create(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Make a key; its secret is shown on the answer, once."""
        form = await visit.form()
        scopes = [name[6:] for name in form.fields if name.startswith("scope:")]
        body: dict[str, Any] = {"name": form.get("name"), "kind": form.get("kind", "live")}
        if scopes:
            body["scopes"] = scopes
        if form.get("days").isdigit():
            body["expires_in_days"] = int(form.get("days"))
        try:
            issued = await visit.send(f"{IDENTITY}/keys", body)
        except AppError as refusal:
            return await _keys_page(visit, error=refusal, values=form.fields, status=refusal.status)
        return await _keys_page(visit, issued=issued)

    @post("/{key:str}/rotate", opt=SEND)
    async def rotate(self, visit: NamedDependency[Visit], key: FromPath[str]) -> Response[bytes]:
        """Make a successor; the old key works for another day."""
        await visit.form()
        try:
            issued = await visit.send(f"{IDENTITY}/keys/{part(key)}/rotate", {"overlap_seconds": DAY_SECONDS})
        except AppError as refusal:
            return await _keys_page(visit, error=refusal, status=refusal.status)
        return await _keys_page(visit, issued=issued)

    @post("/{key:str}/revoke", opt=SEND)
    async def revoke(self, visit: NamedDependency[Visit], key: FromPath[str]) -> Response[bytes]:
        """End a key; the browser's own one signs it out."""
        await visit.form()
        await visit.send(f"{IDENTITY}/keys/{part(key)}/revoke")
        return see("/account/keys")


async def _keys_page(
    visit: Visit,
    *,
    cursor: str | None = None,
    issued: Any = None,
    error: AppError | None = None,
    values: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response[bytes]:
    keys = await visit.get(f"{IDENTITY}/keys", account=visit.who.account, limit=PAGE, cursor=cursor)
    held = sorted({scope for key in keys["data"] for scope in key["scopes"]} | visit.who.scopes)
    return visit.page(
        "identity/keys.html",
        keys=keys,
        issued=issued,
        error=error,
        values=values or {},
        kinds=("live", "test", "admin") if visit.who.is_admin else ("live", "test"),
        scopes=[scope for scope in held if scope != "*"],
        status=status,
        cli=["aitbc key list", "aitbc key create laptop --save FILE", "aitbc key rotate KEY", "aitbc key revoke KEY"],
    )


class SessionPages(Controller):
    """The browsers that are signed in."""

    path = "/account/sessions"
    include_in_schema = False

    @get("/", opt=READ)
    async def sessions(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """All of them, to see whether one is not one's own."""
        found = (await visit.get(f"{IDENTITY}/sessions"))["data"]
        return visit.page("identity/sessions.html", sessions=found, cli=["aitbc login"])

    @post("/{session:str}/end", opt=SEND)
    async def end(self, visit: NamedDependency[Visit], session: FromPath[str]) -> Response[bytes]:
        """Sign one out."""
        await visit.form()
        await visit.send(f"{IDENTITY}/sessions/{part(session)}/end")
        return see("/account/sessions")
