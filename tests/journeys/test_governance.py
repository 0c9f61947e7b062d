"""Governance wherever the modules live: from stake to the next quote, and killed while it executes."""

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.server_process import ServerProcess
from tests.eventually import eventually
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import TestInstallation
from tests.journeys.test_paid_job import submit
from tests.journeys.test_places import SHAPES, Installation
from tests.scale import only_in_full, scaled

RULES = """
[governance]
late_seconds = 1
unlock_seconds = 600
quorum_units = { parameters = 100000000, funding = 100000000 }
delay_seconds = { parameters = 1, funding = 1 }
voting_seconds = { parameters = 3, funding = 3, general = 3, emergency = 3 }
timelock_seconds = { parameters = 1, funding = 1, general = 1, emergency = 1 }
proposal_power_units = 100000000
"""
KILLS = scaled(2, 50)
PATIENCE_SECONDS = 120.0


class Member:
    """The operator, who has money and stake."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    def ask(self, method: str, path: str, body: Any = None, *, once: str | None = None) -> Any:
        """An answer, which must be a success."""
        headers = {"Authorization": f"Bearer {self._server.admin_key}", "Content-Type": "application/json"}
        headers["Idempotency-Key"] = once or uuid.uuid4().hex
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._server.url}/api/v1/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{method} {path}: {refused.code} {refused.read()!r}") from None

    def fund(self, amount: str) -> str:
        """Money for the operator's own account, whose id this is."""
        account = str(self.ask("GET", "identity/keys/self")["account"])
        self.ask("POST", "trading/deposits", {"account": account, "amount": amount})
        return account

    def state(self, proposal: str) -> str:
        """Where a proposal is."""
        return str(self.ask("GET", f"governance/proposals/{proposal}")["state"])

    def voted(self, **proposal: Any) -> str:
        """A proposal for which the operator has voted."""
        made = str(self.ask("POST", "governance/proposals", {"title": uuid.uuid4().hex} | proposal)["id"])
        until(lambda: self.state(made) == "active")
        self.ask("PUT", f"governance/proposals/{made}/vote", {"choice": "for"})
        return made


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


async def settled(server: ServerProcess) -> dict[str, Any]:
    """The receipt of a job that a miner does now."""
    place = TestInstallation([server])
    alice, owner = await place.who("alice", funds="1"), await place.who("owner")
    miner = await HandMiner.enrol(place, owner)
    job = await submit(alice)
    [lease] = await miner.poll(wait=20)
    assert lease["job"] == job["id"]
    assert (await miner.deliver(lease)).status_code == 200

    async def receipted() -> bool:
        return bool((await alice.get(f"/api/v1/ai/jobs/{job['id']}")).json()["receipt"])

    await eventually(receipted)
    told = (await alice.get(f"/api/v1/ai/jobs/{job['id']}")).json()["receipt"]
    return dict((await alice.get(f"/api/v1/trading/receipts/{told}")).json()["receipt"])


def settings(folder: Path) -> dict[str, str]:
    """The variable that names the rules of these tests."""
    file = folder / "rules.toml"
    file.write_text(RULES)
    return {"AITBC_CONFIG": str(file)}


@pytest.mark.parametrize("shape", scaled(["all split"], list(SHAPES)))
def test_a_vote_changes_the_next_quote_and_the_chain_verifies(tmp_path: Path, shape: str) -> None:
    made = Installation(tmp_path, SHAPES[shape], **settings(tmp_path)).start()
    try:
        member = Member(made.server)
        member.fund("1000")
        assert member.ask("POST", "governance/stake/lock", {"amount": "500"})["state"] == "done"
        lower = {"do": "set_parameter", "name": "trading.fee_basis_points", "value": 200}
        price = {"do": "set_parameter", "name": "ai.unit_price.embed", "value": 77}
        job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
        before = member.ask("POST", "ai/quotes", job)["unit_price"]
        proposal = member.voted(**{"class": "parameters", "actions": [lower, price]})
        simulated = member.ask("GET", f"governance/proposals/{proposal}/simulation?days=30")
        assert simulated["changes"]["trading.fee_basis_points"] == [250, 200]
        until(lambda: member.state(proposal) == "executed")
        until(lambda: member.ask("GET", "trading/fees")["basis_points"] == 200)
        until(lambda: member.ask("POST", "ai/quotes", job)["unit_price"] == "0.00000077")
        assert before == "0.0000001"
        until(lambda: member.ask("GET", "governance/stake")["own"] == "500")
        receipt = asyncio.run(settled(made.server))
        assert receipt["fee_basis_points"] == 200
        assert Decimal(receipt["price"]) == Decimal("0.00000077") * int(receipt["units"]) > 0
        assert member.ask("POST", "trading/ledger/verify", {})["ok"] is True
    finally:
        made.server.stop()


@only_in_full
def test_an_execution_that_is_killed_pays_once(tmp_path: Path) -> None:
    """The server is killed again and again while grants are executed: each is paid once, and the books are right."""
    made = Installation(tmp_path, {}, **settings(tmp_path)).start()
    try:
        member = Member(made.server)
        account = member.fund("2000")
        member.ask("POST", "governance/stake/lock", {"amount": "500"})
        member.ask("POST", "governance/treasury/gifts", {"amount": "100"})
        grant = [
            {"do": "set_budget", "line": "grants", "limit": str(10 * KILLS)},
            {"do": "pay", "to": account, "line": "grants", "amount": "1", "parts": 2, "every_seconds": 1},
        ]
        for number in range(KILLS):
            proposal = member.voted(**{"class": "funding", "actions": grant})
            until(lambda proposal=proposal: member.state(proposal) in ("queued", "executed"))  # type: ignore[misc]
            time.sleep((number % 5) * 0.3)  # not a proof: it spreads the kills over what happens then
            made.server.kill()
            made.server.start()
            until(lambda proposal=proposal: member.state(proposal) == "executed")  # type: ignore[misc]
        until(lambda: member.ask("GET", "governance/treasury")["promised"] == "0")
        treasury = member.ask("GET", "governance/treasury")
        (line,) = treasury["lines"]
        assert (line["paid"], treasury["balance"]) == (str(KILLS), str(100 - KILLS))
        assert member.ask("POST", "trading/ledger/verify", {})["ok"] is True
    finally:
        made.server.stop()
