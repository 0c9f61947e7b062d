"""The market at a glance, from what the ledger and the models say: the same for everybody who may read the chain."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import parse, render

Ask = Callable[..., Awaitable[Any]]
"""Asks the API: a path, and the query by name."""
BLOCKS_SHOWN = 8
BLOCKS_READ = 50
MINUTES = 60
RATE_MINUTES = 10
RECEIPTS_MAX = 1000
PAGE = 100
"""How many receipts one question brings."""
SOON = timedelta(minutes=MINUTES)


async def market_of(ask: Ask) -> dict[str, Any]:
    """What the overview shows of the market now."""
    blocks = (await ask("/api/v1/trading/blocks", limit=BLOCKS_READ))["data"]
    receipts, is_cut = await _receipts_since(ask, now() - SOON)
    kinds = await kinds_of(ask)
    newest = blocks[0] if blocks else None
    return {
        "height": newest["height"] if newest else -1,
        "sealed": newest["time"] if newest else None,
        "blocks": [block for block in blocks if block["records"]][:BLOCKS_SHOWN],
        "kinds": kinds,
        "serving": max((kind["miners"] for kind in kinds), default=0),
        "models": sum(len(kind["models"]) for kind in kinds),
        **activity(receipts, now()),
        "cut": is_cut,
    }


async def kinds_of(ask: Ask) -> list[dict[str, Any]]:
    """The kinds of work, with the models that miners serve for each and how many miners serve the most served one."""
    kinds = (await ask("/api/v1/ai/kinds"))["data"]
    models = (await ask("/api/v1/ai/models", limit=200))["data"]
    found = []
    for kind in kinds:
        served = [model for model in models if model["kind"] == kind["name"] and model["miners"]]
        counts = {name: max((model[name] for model in served), default=0) for name in ("miners", "slots")}
        found.append({**kind, **counts, "models": [model["name"] for model in served]})
    return found


async def _receipts_since(ask: Ask, since: datetime) -> tuple[list[Mapping[str, Any]], bool]:
    """The receipts since a time, newest first, and whether there were more than are read."""
    found: list[Mapping[str, Any]] = []
    cursor = None
    while len(found) < RECEIPTS_MAX:
        page = await ask("/api/v1/trading/receipts", limit=PAGE, cursor=cursor)
        fresh = [one for one in page["data"] if _time(one["issued_at"]) >= since]
        found += fresh
        if len(fresh) < len(page["data"]) or not page["has_more"]:
            return found, False
        cursor = page["next_cursor"]
    return found, True


def activity(receipts: Sequence[Mapping[str, Any]], at: datetime) -> dict[str, Any]:
    """Jobs and money of the last hour, by minute, from receipts."""
    first = at.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    jobs, units = [0] * MINUTES, [0] * MINUTES
    recent = 0
    for receipt in receipts:
        issued = _time(receipt["issued_at"])
        minute = int((issued - first).total_seconds() // 60)
        if 0 <= minute < MINUTES:
            jobs[minute] += 1
            units[minute] += parse(receipt["price"], zero=True)
        recent += issued > at - timedelta(minutes=RATE_MINUTES)
    labels = [f"{first + timedelta(minutes=minute):%H:%M}" for minute in range(MINUTES)]
    return {
        "jobs": sum(jobs),
        "settled": render(sum(units)),
        "per_minute": f"{recent / RATE_MINUTES:.1f}",
        "minutes": [
            {"label": label, "jobs": count, "settled": render(paid)}
            for label, count, paid in zip(labels, jobs, units, strict=True)
        ],
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
