"""Receipts of runs: what was done and paid, signed by the node. A run that failed has one over what was done."""

from typing import Any

from msgspec import Struct

from aitbc.kernel.crypto.signing import Key, NotCanonical, canonical, value_digest, verify
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.hermes.models.life import OVER
from aitbc.modules.hermes.models.shapes import AgentRun
from aitbc.modules.hermes.service.runs import AgentRuns

STATEMENT = "aitbc.agent_run.v1"


class RunNotOver(Conflict):
    """This run has not ended; it has a receipt when it has."""

    code = "agent_run_not_over"


class AgentReceipt(Struct, frozen=True, kw_only=True):
    """What a run did and cost."""

    statement: dict[str, Any]
    """What is signed: the run, who paid whom, and each step with what it cost and the digest of its output."""
    public_key: str
    """The node's key. For example `o_z1CF2pL6lWm5GHVXqb1mNHmqUXV5hD2hIDYoyVYtE`."""
    signature: str
    """Ed25519 over the statement as canonical JSON, in url-safe base 64. For example
    `5qjq4K1m0a3o2iYtYx7c6sXb1t4rXoT4v3mY9p8Hq0mP8jKfUe2WcXz7nDg5LsRk1BvTh6MyQa9NwEoIuJtGBA`."""


class AgentReceipts:
    """Signs and checks receipts."""

    def __init__(self, runs: AgentRuns, key: Key) -> None:
        self._runs = runs
        self._key = key

    async def of(self, who: Principal, run: str) -> AgentReceipt:
        """The receipt of a run that has ended; the same at any time. Raises `AgentRunNotFound`, `RunNotOver`."""
        row, _ = await self._runs.rows(who, run)
        found = await self._runs.get(who, run)
        if found.state not in OVER:
            raise RunNotOver
        statement = _statement(found, row.owner)
        signature = self._key.sign(canonical(statement))
        return AgentReceipt(statement=statement, public_key=self._key.public, signature=signature)

    def is_genuine(self, receipt: dict[str, Any]) -> bool:
        """Whether this node signed a receipt, and nothing in it was changed."""
        match receipt:
            case {"statement": {"statement": "aitbc.agent_run.v1"} as statement, "signature": str(signature)}:
                try:
                    return verify(self._key.public, canonical(statement), signature)
                except NotCanonical:
                    return False
        return False


def _statement(run: AgentRun, owner: str) -> dict[str, Any]:
    return {
        "statement": STATEMENT,
        "run": run.id,
        "parent": run.parent,
        "payer": run.account,
        "owner": owner,
        "agent": run.agent,
        "skill": run.skill,
        "state": run.state,
        "reason": run.reason,
        "budget": run.budget,
        "price": run.price if run.transaction is not None else "0",
        "spent": run.spent,
        "transaction": run.transaction,
        "input_digest": value_digest(run.text),
        "output_digest": None if run.output is None else value_digest(run.output),
        "steps": [
            {
                "number": step.number,
                "name": step.name,
                "does": step.does,
                "state": step.state,
                "reference": step.reference,
                "spent": step.spent,
                "output_digest": None if step.output is None else value_digest(step.output),
            }
            for step in run.steps
        ],
        "created_at": run.created_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
    }
