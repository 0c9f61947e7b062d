"""The explorer: blocks, transactions, receipts, addresses, search; and the statement of an account."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.money import ASSET, parse, render
from aitbc.web.links import page_of
from aitbc.web.visit import READ, Visit, attachment, part, see

TRADING = "/api/v1/trading"
PAGE = 25
PAGES_READ = 8
"""How many pages of blocks are looked through for those with records before the page is shown as it is."""
Cursor = Annotated[str, Meta(max_length=500)]
Asset = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9]{1,11}\Z")]
Query = Annotated[str, Meta(max_length=200)]
FIRST_IN_CELL = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


class ExplorerPages(Controller):
    """The chain, for people."""

    path = "/explorer"
    include_in_schema = False

    @get("/", opt=READ)
    async def blocks(
        self,
        visit: NamedDependency[Visit],
        cursor: FromQuery[Cursor | None] = None,
        empty: FromQuery[Literal["yes", "no"]] = "no",
    ) -> Response[bytes]:
        """Blocks, newest first; empty ones only where they are asked for."""
        blocks = await _blocks(visit, cursor, with_empty=empty == "yes")
        return visit.page(
            "trading/explorer.html",
            blocks=blocks,
            height=blocks["newest"],
            newest=cursor is None and empty == "no",
            empty=empty,
            cli=["aitbc block list"],
        )

    @get("/transactions", opt=READ)
    async def transactions(
        self,
        visit: NamedDependency[Visit],
        reference: FromQuery[Query | None] = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Transactions, newest first; with `reference` those of one job, booking or correction."""
        found = await visit.get(f"{TRADING}/transactions", reference=reference, limit=PAGE, cursor=cursor)
        for one in found["data"]:
            moved = (parse(entry["amount"]) for entry in one["entries"] if not entry["amount"].startswith("-"))
            one["moved"] = render(sum(moved)) if one["entries"] else "0"
        return visit.page("trading/transactions.html", transactions=found, reference=reference, cli=["aitbc tx list"])

    @get("/transactions/{transaction:str}", opt=READ)
    async def transaction(self, visit: NamedDependency[Visit], transaction: FromPath[str]) -> Response[bytes]:
        """One transaction, with every balance before and after it."""
        found = await visit.get(f"{TRADING}/transactions/{part(transaction)}")
        return visit.page("trading/transaction.html", transaction=found, cli=[f"aitbc tx show {transaction}"])

    @get("/receipts", opt=READ)
    async def receipts(
        self,
        visit: NamedDependency[Visit],
        payer: FromQuery[Query | None] = None,
        miner: FromQuery[Query | None] = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Receipts, newest first; with `payer` or `miner` those of one."""
        found = await visit.get(f"{TRADING}/receipts", payer=payer, miner=miner, limit=PAGE, cursor=cursor)
        return visit.page("trading/receipts.html", receipts=found, payer=payer, miner=miner, cli=["aitbc receipt list"])

    @get("/receipts/{receipt:str}", opt=READ)
    async def receipt(self, visit: NamedDependency[Visit], receipt: FromPath[str]) -> Response[bytes]:
        """One receipt with its proof, which the browser checks itself."""
        file = await visit.get(f"{TRADING}/receipts/{part(receipt)}")
        commands = [f"aitbc receipt show {receipt} --json > receipt.json", "aitbc receipt verify receipt.json"]
        return visit.page("trading/receipt.html", file=file, cli=commands)

    @get("/receipts/{receipt:str}/file", opt=READ)
    async def receipt_file(self, visit: NamedDependency[Visit], receipt: FromPath[str]) -> Response[bytes]:
        """The file of a receipt, byte for byte as the API gives it."""
        content = await visit.content(f"{TRADING}/receipts/{part(receipt)}")
        return Response(content, media_type="application/json", headers=attachment(f"{receipt}.json"))

    @get("/blocks/{block:str}", opt=READ)
    async def block(
        self, visit: NamedDependency[Visit], block: FromPath[str], cursor: FromQuery[Cursor | None] = None
    ) -> Response[bytes]:
        """One block and its records."""
        found = await visit.get(f"{TRADING}/blocks/{part(block)}")
        records = await visit.get(f"{TRADING}/blocks/{found['height']}/records", limit=PAGE, cursor=cursor)
        commands = [f"aitbc block show {found['height']}"]
        after = f"{TRADING}/blocks/{found['height'] + 1}"
        return visit.page(
            "trading/block.html",
            block=found,
            records=records,
            has_after=await _exists(visit, after),
            cli=commands,
        )

    @get("/addresses/{address:str}", opt=READ)
    async def address(self, visit: NamedDependency[Visit], address: FromPath[str]) -> Response[bytes]:
        """What an account owns, earned and spent."""
        found = await visit.get(f"{TRADING}/addresses/{part(address)}")
        receipts = await visit.get(f"{TRADING}/receipts", payer=found["account"], limit=PAGE)
        return visit.page(
            "trading/address.html", address=found, receipts=receipts, cli=[f"aitbc address show {address}"]
        )

    @get("/search", opt=READ)
    async def search(self, visit: NamedDependency[Visit], q: FromQuery[Query] = "") -> Response[bytes]:
        """Go straight to what is named; a page that says what can be named, where nothing is."""
        query = q.strip()
        if not query:
            return see("/explorer")
        place = await self._place(visit, query)
        if place is not None:
            return see(place)
        return visit.page("trading/search.html", query=query, status=404, cli=[])

    async def _place(self, visit: Visit, query: str) -> str | None:
        """The page of what is named; a job that is one's own comes before its hold and its receipt."""
        if query.startswith(("job_", "mnr_")) and (page := page_of(query)) is not None:
            module, scope = ("ai/jobs", "jobs:read") if query.startswith("job_") else ("gpu/miners", "miners:read")
            if visit.who.may(scope) and await _exists(visit, f"/api/v1/{module}/{part(query)}"):
                return page
        try:
            found = await visit.get(f"{TRADING}/search", q=query)
        except AppError as refusal:
            if refusal.status in (404, 422):
                return None
            raise
        return _page_of_found(found)

    @get("/verify", opt=READ)
    async def verify(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Fees, the keys of the node, and how to check the chain oneself."""
        fees = await visit.get(f"{TRADING}/fees")
        keys = (await visit.get(f"{TRADING}/chain/keys"))["data"]
        commands = ["aitbc chain export chain.jsonl", "aitbc chain verify chain.jsonl"]
        return visit.page("trading/verify.html", fees=fees, keys=keys, cli=commands)

    @get("/export", opt=READ | {"lasts": True})
    async def export(self, visit: NamedDependency[Visit]) -> Stream:
        """The whole chain as a file."""
        _, pieces = await visit.stream(f"{TRADING}/chain/export")
        return Stream(pieces, media_type="application/jsonl", headers=attachment("chain.jsonl"))


class StatementPages(Controller):
    """The statement of one's own account."""

    path = "/account/statement"
    include_in_schema = False

    @get("/", opt=READ)
    async def statement(
        self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None, asset: FromQuery[Asset] = ASSET
    ) -> Response[bytes]:
        """Every change of the balance, newest first, each with what was there before and after."""
        account = f"{TRADING}/accounts/{visit.who.account}"
        try:
            balance = await visit.get(account)
            entries = await visit.get(f"{account}/entries", limit=PAGE, cursor=cursor, asset=asset)
            others = [one for one in (await visit.get(f"{account}/assets"))["data"] if one["asset"] != asset]
        except NotFound:
            balance, entries, others = None, {"data": [], "has_more": False, "next_cursor": None}, []
        commands = ["aitbc account show", "aitbc account statement -o csv"]
        return visit.page(
            "trading/statement.html", balance=balance, entries=entries, others=others, asset=asset, cli=commands
        )

    @get("/csv", opt=READ | {"lasts": True})
    async def file(self, visit: NamedDependency[Visit]) -> Stream:
        """All of it as a table for spreadsheets, without a limit."""
        return Stream(_lines(visit), media_type="text/csv", headers=attachment("statement.csv"))


async def _lines(visit: Visit) -> AsyncIterator[bytes]:
    columns = ("at", "version", "kind", "amount", "before", "after", "transaction", "reference", "reason")
    yield (",".join(columns) + "\r\n").encode()
    cursor = None
    while True:
        path = f"{TRADING}/accounts/{visit.who.account}/entries"
        page = await visit.get(path, limit=200, cursor=cursor)
        for entry in page["data"]:
            yield line_of([entry[column] for column in columns])
        if not page["has_more"]:
            return
        cursor = page["next_cursor"]


def line_of(values: list[Any]) -> bytes:
    """A line of a CSV file; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    csv.writer(text).writerow([_cell(value) for value in values])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    is_number = text.lstrip("-").replace(".", "", 1).isdigit()
    return f"'{text}" if text.startswith(FIRST_IN_CELL) and not is_number else text


async def _blocks(visit: Visit, cursor: str | None, *, with_empty: bool) -> dict[str, Any]:
    """A page of blocks; without empty ones several pages of the API are looked through."""
    found: list[Any] = []
    newest = -1
    page: dict[str, Any] = {"has_more": True, "next_cursor": cursor}
    for _ in range(1 if with_empty else PAGES_READ):
        page = await visit.get(f"{TRADING}/blocks", limit=PAGE if with_empty else 50, cursor=page["next_cursor"])
        newest = max([newest, *(block["height"] for block in page["data"])])
        found += [block for block in page["data"] if with_empty or block["records"]]
        if len(found) >= PAGE or not page["has_more"]:
            break
    return {"data": found, "has_more": page["has_more"], "next_cursor": page["next_cursor"], "newest": newest}


async def _exists(visit: Visit, path: str) -> bool:
    try:
        await visit.ask_quietly(path)
    except NotFound:
        return False
    return True


def _page_of_found(found: dict[str, Any]) -> str | None:
    """The page of what the API found; a hold is shown by the transactions of what it was placed for."""
    kind, thing = found["kind"], found["id"]
    if kind == "block":
        return f"/explorer/blocks/{found['path'].rpartition('/')[2]}"
    if kind == "hold":
        return f"/explorer/transactions?reference={thing}"
    if kind == "miner":
        return f"/explorer/receipts?miner={thing}"
    return page_of(thing)
