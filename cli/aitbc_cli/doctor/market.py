"""The market on the server: blocks are sealed, the ledger agrees with itself, events arrive, somebody does the work."""

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok, warning
from aitbc_cli.times import length, read

SEALED_WITHIN_SECONDS = 30.0
"""Blocks are sealed every second; more than this is not a busy server but a broken one."""


def chain(case: Case) -> Finding:
    """What happens is sealed into blocks."""
    newest = case.read("/api/v1/trading/transactions", limit=1)["data"]
    head = case.read("/api/v1/trading/blocks/head")
    sealed = read(head["time"])
    waiting = (case.now() - read(newest[0]["at"])).total_seconds() if newest and read(newest[0]["at"]) > sealed else 0.0
    if waiting > SEALED_WITHIN_SECONDS:
        message = f"a transaction waits since {length(waiting)} to be sealed after block {head['height']}"
        return failed(message, case.restart if case.is_local else "aitbc chain head")
    age = max((case.now() - sealed).total_seconds(), 0.0)
    return ok(f"height {head['height']}, {length(age)} old, nothing waits")


def ledger(case: Case) -> Finding:
    """Every unit of money is in exactly one place."""
    drift = case.figures().get("aitbc_ledger_drift")
    if drift is None:
        raise Unknown("the server did not measure it in time", "aitbc ledger verify")
    if drift:
        return failed(f"the ledger disagrees with itself by {drift:.0f} minor units", "aitbc ledger verify")
    return ok("no drift")


def events(case: Case) -> Finding:
    """No event between modules was given up."""
    dead = case.read("/api/v1/operations/events", status="dead", limit=1)
    if not dead["data"]:
        return ok("no dead events")
    first = dead["data"][0]
    which = "dead events" if dead["has_more"] else "a dead event"
    reason = str(first["last_error"] or "unknown")[:200]
    return warning(f"there are {which}; the newest, {first['kind']}: {reason}", f"aitbc events replay {first['id']}")


def work(case: Case) -> Finding:
    """Work that waits has somebody who does it."""
    queued = case.read("/api/v1/ai/jobs", status="queued", limit=1)["data"]
    online = case.read("/api/v1/gpu/miners", status="online", limit=1)["data"]
    if queued and not online:
        return warning("jobs wait, and no miner that this key sees is online", "aitbc miner run")
    return ok("miners are online" if online else "nothing waits; no miner that this key sees is online")


CHECKS = (
    Check("chain", "what happens is sealed", chain),
    Check("ledger", "the ledger agrees with itself", ledger),
    Check("events", "events between modules arrive", events),
    Check("work", "somebody does the work that waits", work),
)
