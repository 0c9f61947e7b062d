"""The overview: the market live, what is one's own, and what is wrong now."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, HeaderParameter
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.primitives.errors import Invalid
from aitbc.web.feed import Feed
from aitbc.web.market import market_of
from aitbc.web.visit import FOLLOW, READ, Visit, event_stream, see

MINERS_READ = 200
OPEN_READ = 20
Height = Annotated[int, Meta(ge=-1, le=2**53)]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID")]


class OverviewPages(Controller):
    """The first page."""

    include_in_schema = False

    @get("/", opt=READ)
    async def overview(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """The overview; for a key that may not read the chain, its account."""
        if not visit.who.may("chain:read"):
            return see("/account")
        market = await market_of(visit.get)
        miners = await visit.maybe("/api/v1/gpu/miners", scope="miners:read", limit=MINERS_READ)
        balance = await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read")
        open_jobs, open_more = await _open_jobs(visit)
        return visit.page(
            "overview/overview.html",
            market=market,
            balance=balance,
            open_jobs=open_jobs,
            open_more=open_more,
            fleet=fleet_of(miners["data"]) if miners and miners["data"] else None,
            wrong=await _wrong(visit, miners["data"] if miners else ()),
            cli=["aitbc status", "aitbc model list", "aitbc block list", "aitbc job list"],
        )

    @get("/live", opt=FOLLOW)
    async def live(
        self,
        visit: NamedDependency[Visit],
        feed: NamedDependency[Feed],
        after: FromQuery[Height | None] = None,
        seen: FromQuery[Height | None] = None,
        last_event_id: LastEventId = None,
    ) -> Stream:
        """New blocks and figures as server-sent events, from the block on that was seen last."""
        visit.who.require("chain:read")
        place = after if seen is None else seen
        if last_event_id:
            if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
                raise Invalid("This Last-Event-ID was not sent by this stream.")
            place = int(last_event_id)
        return event_stream(_until_signed_out(visit, feed.follow(visit, place)))


async def _until_signed_out(visit: Visit, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The events, while the session lasts."""
    async with aclosing(events):
        async for event in events:
            if not await visit.is_signed_in():
                return
            yield event


async def _open_jobs(visit: Visit) -> tuple[Sequence[Any] | None, bool]:
    """The caller's newest jobs that have not ended, and whether there are more of a state than were read."""
    if not visit.who.may("jobs:read"):
        return None, False
    found: list[Any] = []
    more = False
    for state in ("running", "leased", "queued"):
        page = await visit.get("/api/v1/ai/jobs", state=state, limit=OPEN_READ)
        found += page["data"]
        more = more or page["has_more"]
    return found, more


def fleet_of(miners: Sequence[Any]) -> dict[str, Any]:
    """What miners have together, from their last reports; of what no miner reports there is none."""
    present = [miner for miner in miners if miner["status"] in ("online", "draining")]
    devices = [one for miner in present for one in miner["inventory"]["devices"] if one["type"] != "cpu"]
    busy = [one["utilization"] for one in devices if one["utilization"] is not None]
    watts = [one["power_watts"] for one in devices if one["power_watts"] is not None]
    return {
        "all": sum(miner["status"] != "removed" for miner in miners),
        "online": len(present),
        "slots": sum(miner["slots"] for miner in present),
        "busy": sum(miner["slots_busy"] for miner in present),
        "gpus": len(devices),
        "memory": sum(one["memory_total_mib"] or 0 for one in devices),
        "used": sum(one["memory_used_mib"] or 0 for one in devices),
        "utilization": round(sum(busy) / len(busy)) if busy else None,
        "watts": round(sum(watts)) if watts else None,
    }


async def _wrong(visit: Visit, miners: Sequence[Any]) -> list[dict[str, str]]:
    """What somebody should look at now, as far as the caller may know it."""
    found = [
        {
            "text": f"Miner {miner['name']} is offline: {miner['status_reason'] or 'no heartbeat'}.",
            "path": f"/miners/{miner['id']}",
        }
        for miner in miners
        if miner["status"] == "offline"
    ]
    places = await visit.maybe("/api/v1/operations/places", scope="places:read")
    found += [
        {"text": f"Module {place['module']} does not answer: {place['reason']}.", "path": "/operator"}
        for place in (places["data"] if places else ())
        if not place["answers"]
    ]
    for state, text in (("dead", "events were given up"), ("stuck", "events are tried again and again")):
        events = await visit.maybe("/api/v1/operations/events", scope="events:read", state=state, limit=50)
        if events and events["data"]:
            count = f"{len(events['data'])}{'+' if events['has_more'] else ''}"
            found.append({"text": f"{count} {text}.", "path": f"/operator/events?state={state}"})
    return found
