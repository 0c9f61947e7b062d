"""An edge (`aitbc miner run --edge-port`): serves what it was last told, signs what it did, and syncs when it can."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from aitbc.kernel.crypto.signing import Key, canonical, value_digest
from aitbc.kernel.primitives.clock import now
from aitbc_cli.miner.client import Fields, MinerClient, Refused, Unreachable
from aitbc_cli.miner.edge.door import Answer, Door
from aitbc_cli.miner.edge.journal import Journal, JournalFull
from aitbc_cli.miner.edge.work import Desired, StepFailed, Steps
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.options import EdgeOptions

TOLD: Fields = {"desired": list, "neighbours": list, "report_seconds": (int, float)}
TAKEN: Fields = {"kept": int, "known": int, "refused": list}
BATCH = 100
IN_FLIGHT_MAX = 64
FAILURES_MAX = 3
"""After so many failures in a row that were not the caller's, a version is reported as failed."""
SIGN_SECONDS = 2.0
SIGNS_MAX = 50
FIRST_REPORT_SECONDS = 10.0


class Edge:
    """One edge. What it serves and has signed survives its process; the server is told when it can be reached."""

    def __init__(
        self,
        options: EdgeOptions,
        *,
        miner: str,
        key: Key,
        folder: Path,
        steps: Steps,
        can: Callable[[], Mapping[str, Any]],
        event_log: EventLog,
    ) -> None:
        self._options = options
        self._miner = miner
        self._key = key
        self._steps = steps
        self._can = can
        self._event_log = event_log
        self.journal = Journal(folder / "edge.db")
        self.door = Door(self.run_for, self.hear, self.health)
        self.is_connected = False
        """Whether the last report was answered."""
        self._serves = {one["deployment"]: _desired(one) for one in self._kept("serves")}
        self._neighbours: list[dict[str, str]] = self._kept("neighbours")
        self._states: dict[str, dict[str, Any]] = {
            one.deployment: _state(one.version, "ready") for one in self._serves.values()
        }
        self._failures: dict[str, int] = {}
        self._trials: dict[str, asyncio.Task[None]] = {}
        self._signs: dict[str, dict[str, Any]] = {}
        """The newest signs of life of neighbours."""
        self._in_flight = 0
        self._report_seconds = FIRST_REPORT_SECONDS

    def _kept(self, name: str) -> Any:
        return json.loads(self.journal.fact(name) or "[]")

    async def run(self, client: MinerClient) -> None:
        """Serve and report until it is cancelled. Raises `MinerFailed` where its port cannot be had."""
        await self.door.open(self._options.host, self._options.port, self._event_log)
        try:
            while True:
                await self.sync(client)
                await asyncio.sleep(self._report_seconds)
        finally:
            await self.close()

    async def close(self) -> None:
        """Serve no more."""
        await self.door.close()
        for trial in self._trials.values():
            trial.cancel()
        await asyncio.gather(*self._trials.values(), return_exceptions=True)
        self.journal.close()

    # With the server

    async def sync(self, client: MinerClient) -> None:
        """Report, do as one is told, and bring the receipts that wait; cut off, show neighbours that one is alive."""
        report = {
            "address": self._options.address or (self.door.url or None),
            "states": [self._said(deployment, state) for deployment, state in self._states.items()],
            "relayed": list(self._signs.values())[:SIGNS_MAX],
        }
        try:
            told = await client.call("POST", "/hermes/edge/reports", report, expects=TOLD)
            self._report_seconds = float(told["report_seconds"])
            self._note_connected(is_connected=True)
            self._obey(told)
            await self._bring(client)
        except Unreachable as error:
            self._note_connected(is_connected=False, reason=str(error))
            await self._show_life()
        except Refused as refused:
            self._event_log.note("edge_refused", code=refused.code, reason=str(refused))

    def _said(self, deployment: str, state: Mapping[str, Any]) -> dict[str, Any]:
        serves = self._serves.get(deployment)
        return {"deployment": deployment, "serves": 0 if serves is None else serves.version, **state}

    def _note_connected(self, *, is_connected: bool, reason: str = "") -> None:
        if is_connected != self.is_connected:
            self._event_log.note("edge_connected" if is_connected else "edge_cut_off", reason=reason)
        self.is_connected = is_connected

    def _obey(self, told: Mapping[str, Any]) -> None:
        """Take what is to be served: what is new is tried first, and what is not named any more ends."""
        wanted = {one["deployment"]: _desired(one) for one in told["desired"]}
        self._neighbours = told["neighbours"]
        self._signs = {
            edge: sign for edge, sign in self._signs.items() if edge in {one["edge"] for one in self._neighbours}
        }
        self.journal.note("neighbours", json.dumps(self._neighbours))
        for deployment in [one for one in self._states if one not in wanted]:
            self._states.pop(deployment)
            if (trial := self._trials.pop(deployment, None)) is not None:
                trial.cancel()
        for deployment in [one for one in self._serves if one not in wanted]:
            self._serve(deployment, None)
        for deployment, desired in wanted.items():
            serves, state = self._serves.get(deployment), self._states.get(deployment)
            if state is not None and state["version"] == desired.version:
                continue
            if (trial := self._trials.pop(deployment, None)) is not None:
                trial.cancel()
            if serves is not None and serves.version == desired.version:
                self._states[deployment] = _state(desired.version, "ready")
            else:
                self._states[deployment] = _state(desired.version, "preparing")
                self._trials[deployment] = asyncio.create_task(self._try(desired))

    async def _try(self, desired: Desired) -> None:
        """Try a version, and serve it where that went well; until then the one before is served."""
        try:
            await self._steps.trial(desired, self._can())
        except StepFailed as failed:
            self._states[desired.deployment] = _state(desired.version, "failed", failed.reason)
            self._event_log.note("edge_version_failed", deployment=desired.deployment, reason=str(failed))
        else:
            self._failures.pop(desired.deployment, None)
            self._states[desired.deployment] = _state(desired.version, "ready")
            self._serve(desired.deployment, desired)

    def _serve(self, deployment: str, desired: Desired | None) -> None:
        if desired is None:
            self._serves.pop(deployment, None)
        else:
            self._serves[deployment] = desired
        self.journal.note("serves", json.dumps([asdict(one) for one in self._serves.values()]))
        self._event_log.note("edge_serving", deployment=deployment, version=0 if desired is None else desired.version)

    async def _bring(self, client: MinerClient) -> None:
        """Bring the receipts that wait; what the server answered for is forgotten. Raises `Unreachable`, `Refused`."""
        while batch := self.journal.oldest(BATCH):
            body = {"receipts": [{"statement": one.statement, "signature": one.signature} for one in batch]}
            taken = await client.call("POST", "/hermes/edge/receipts", body, expects=TAKEN)
            if taken["kept"] + taken["known"] + len(taken["refused"]) != len(batch):
                raise Unreachable("the answer does not speak of each receipt")
            for refused in taken["refused"]:
                self._event_log.note("edge_receipt_refused", **refused)
            self.journal.forget(batch)

    # With neighbours

    async def _show_life(self) -> None:
        """Show neighbours that this edge is alive; who cannot be reached is passed over."""
        at = int(now().timestamp() * 1000)
        statement = {"statement": "aitbc.edge-life.v1", "edge": self._miner, "at": at}
        sign = {"edge": self._miner, "at": at, "signature": self._key.sign(canonical(statement))}
        timeout = aiohttp.ClientTimeout(total=SIGN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:

            async def show(address: str) -> None:
                with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
                    async with session.post(f"{address.rstrip('/')}/signs", json=sign, allow_redirects=False):
                        pass

            await asyncio.gather(*(show(one["address"]) for one in self._neighbours))

    def hear(self, sign: Any) -> bool:
        """Take a neighbour's sign of life, to bring it along; whether it is from one. The server checks it."""
        match sign:
            case {"edge": str(edge), "at": int(at), "signature": str(signature)} if (
                edge in {one["edge"] for one in self._neighbours} and len(signature) == 86 and 0 <= at < 2**53
            ):
                self._signs[edge] = {"edge": edge, "at": at, "signature": signature}
                return True
        return False

    # With those who are near

    def health(self) -> Mapping[str, Any]:
        """What it serves, whether the server was reached last, and how many receipts wait."""
        return {
            "edge": self._miner,
            "connected": self.is_connected,
            "receipts_waiting": self.journal.waiting,
            "deployments": {one.deployment: one.version for one in self._serves.values()},
        }

    async def run_for(self, deployment: str, token: str, body: Any) -> Answer:
        """Do the work of a deployment for a caller, and sign what became of it."""
        desired = self._serves.get(deployment)
        shown = f"sha256:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()}"
        if not token or desired is None or not hmac.compare_digest(shown, desired.token_digest):
            return 401, _problem("unauthenticated", "Show the token of a deployment that is served here.")
        text, data = body.get("text", ""), body.get("data")
        if not isinstance(text, str) or not body.keys() <= {"text", "data"}:
            return 422, _problem("invalid", "Expected `text` and `data`, and nothing else.")
        try:
            self.journal.require_room()
        except JournalFull:
            return 503, _problem("receipts_full", "Too many receipts wait for the server.")
        if self._in_flight >= IN_FLIGHT_MAX:
            return 503, _problem("busy", "Too much is under way here.")
        self._in_flight += 1
        try:
            return await self._work(desired, text, data)
        finally:
            self._in_flight -= 1

    async def _work(self, desired: Desired, text: str, data: Any) -> Answer:
        began = time.monotonic()
        failed: StepFailed | None = None
        output: Any = None
        try:
            output = await self._steps.run(desired, text, data)
        except StepFailed as failure:
            failed = failure
        self._count(desired, failed)
        receipt = self._sign(desired, {"text": text, "data": data}, output, failed, time.monotonic() - began)
        told = {"deployment": desired.deployment, "version": desired.version, "receipt": receipt}
        if failed is None:
            return 200, {**told, "output": output}
        status = 422 if failed.fault == "requester" else 502
        return status, {**told, **_problem(failed.reason, str(failed))}

    def _count(self, desired: Desired, failed: StepFailed | None) -> None:
        """Note whether a version works: after some failures in a row it is reported as failed, until one succeeds."""
        if failed is not None and failed.fault == "requester":
            return
        count = 0 if failed is None else self._failures.get(desired.deployment, 0) + 1
        self._failures[desired.deployment] = count
        state = self._states.get(desired.deployment)
        if state is None or state["version"] != desired.version:
            return
        if failed is not None and count >= FAILURES_MAX:
            self._states[desired.deployment] = _state(desired.version, "failed", failed.reason)
        elif failed is None and state["state"] != "ready":
            self._states[desired.deployment] = _state(desired.version, "ready")

    def _sign(
        self, desired: Desired, asked: Any, output: Any, failed: StepFailed | None, seconds: float
    ) -> dict[str, str]:
        def signed(sequence: int) -> tuple[str, str]:
            statement = {
                "statement": "aitbc.edge.v1",
                "edge": self._miner,
                "deployment": desired.deployment,
                "version": desired.version,
                "journal": self.journal.id,
                "sequence": sequence,
                "input_digest": value_digest(asked),
                "output_digest": "" if failed is not None else value_digest(output),
                "problem": "" if failed is None else failed.reason,
                "milliseconds": round(seconds * 1000),
                "ended_at": now().isoformat(),
                "cut_off": not self.is_connected,
            }
            text = canonical(statement)
            return text.decode(), self._key.sign(text)

        receipt = self.journal.add(signed)
        return {"statement": receipt.statement, "signature": receipt.signature}


def _desired(told: Mapping[str, Any]) -> Desired:
    """What is to be served, as the server says it, or as it was noted."""
    return Desired(**{field: told[field] for field in Desired.__dataclass_fields__})


def _state(version: int, state: str, problem: str = "") -> dict[str, Any]:
    return {"version": version, "state": state, "problem": problem}


def _problem(code: str, detail: str) -> dict[str, Any]:
    return {"code": code, "detail": detail[:2000]}
