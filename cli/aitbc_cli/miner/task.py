"""A task: the work on one lease, from its input to a delivery that the server answered."""

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aitbc.kernel.crypto.signing import canonical, value_digest, work_statement
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.kernel.primitives.trace_context import span_id_of, traceparent_of
from aitbc_cli.miner.client import KEPT, OUTCOME, MinerClient, Refused, Unreachable, attempts_with_backoff
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.pool import ExecutorPool, Failure, Outcome, Progress, Work
from aitbc_cli.miner.executors.work import Gpu, with_big_output_in_file
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.log_lines import LogLines
from aitbc_cli.miner.output_parts import OutputParts
from aitbc_cli.miner.parts_sender import PartsSender

LOG_LINES_AT_ONCE = 200
FILES = "files/"
"""What the names of files begin with that work has made beside its output."""
RELEASE_SECONDS = 5.0
DAMAGED_MAX = 5
"""How often an input that is not what its digest says is fetched again."""
STREAMED = frozenset({"chat"})
"""Kinds whose output is streamed in parts, and which can be finished early."""
STOP = "stop"
STOP_ASKED = "stop_asked"


class LeaseLost(Exception):
    """The lease is over: it ran out, or the job was canceled."""


class Task:
    """Work on one lease. Its `task` ends when the server knows how the work ended."""

    def __init__(
        self,
        lease: dict[str, Any],
        miner: str,
        client: MinerClient,
        home: Home,
        event_log: EventLog,
        parts_sender: PartsSender | None = None,
    ) -> None:
        self.lease = lease
        self.attempt: str = lease["attempt"]
        self.progress: float | None = None
        self.begun_at = asyncio.get_running_loop().time()
        self.delivering = False
        """The work is done; only the answer is missing."""
        self.failure: Failure | None = None
        """How the work failed."""
        self._miner = miner
        self._client = client
        self._home = home
        self._event_log = event_log
        self._log = LogLines()
        sender = parts_sender or PartsSender(client)
        self._parts = OutputParts(sender, self.attempt, lease["token"]) if lease["kind"] in STREAMED else None

    @property
    def ending(self) -> tuple[str, str, float]:
        """How it ended, whose fault that was, and how long it took; what was canceled or lost was given up."""
        outcome = "failed" if self.failure is not None else "succeeded" if self.delivering else "given_up"
        seconds = asyncio.get_running_loop().time() - self.begun_at
        return outcome, self.failure.fault if self.failure is not None else "none", seconds

    @property
    def streams(self) -> bool:
        """Whether the output is sent in parts while the work goes on."""
        return self._parts is not None

    @property
    def renewal(self) -> dict[str, Any]:
        """The renewal that a heartbeat sends."""
        fields = {"attempt": self.attempt, "token": self.lease["token"]}
        return fields | ({"progress": self.progress} if self.progress is not None else {})

    async def run(self, pool: ExecutorPool) -> None:
        """Do the work and deliver it, or report the failure. Cancelled, it reports nothing: whoever cancels does."""
        folder = self._home.work / self.attempt
        folder.mkdir(mode=0o700)
        logging = asyncio.create_task(self._log_loop())
        try:
            outcome = await self._outcome(pool, folder)
            self._log.finish()
            await self._send_lines()
            self.failure = outcome.error
            if outcome.error is not None:
                await self._report_failure(outcome.error)
                return
            if await self._deliver(outcome) == STOP_ASKED and self._parts is not None:
                await self._parts.ask()  # how far it counts
                await self._deliver(self._cut_short(self._parts, folder))
        except LeaseLost as gone:
            self._event_log.note("lease_lost", job=self.lease["job"], attempt=self.attempt, reason=str(gone))
        finally:
            logging.cancel()
            shutil.rmtree(folder, ignore_errors=True)

    async def _deliver(self, outcome: Outcome) -> str | None:
        """Sign and deliver; returns the code of a refusal."""
        body = await self._result(outcome)
        self._home.keep_undelivered(self.attempt, body)
        self.delivering = True
        return await deliver(self._client, self._home, self._event_log, self.attempt, body)

    async def _work(self, pool: ExecutorPool, work: Work) -> Outcome:
        """Do the work, and stop when its owner wants no more of it. Raises `LeaseLost`."""
        if self._parts is None:
            return await pool.run(work, on_progress=self._on_progress)
        working = asyncio.create_task(pool.run(work, on_progress=self._on_progress))
        sending = asyncio.create_task(self._parts.send_until_stopped())
        try:
            await asyncio.wait({working, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                outcome = working.result()
                await cancel_and_wait([sending])
                status = await self._parts.send_rest() if outcome.error is None else "live"
                return self._cut_short(self._parts, work.folder) if status == STOP else outcome
            status = sending.result()
        finally:
            for task in (working, sending):
                task.cancel()
            await asyncio.gather(working, sending, return_exceptions=True)
        if status != STOP:
            raise LeaseLost(status)
        return self._cut_short(self._parts, work.folder)

    def _cut_short(self, parts: OutputParts, folder: Path) -> Outcome:
        """What was delivered until its owner asked to finish early."""
        self._event_log.note("work_stopped", job=self.lease["job"], attempt=self.attempt)
        message = {"role": "assistant", "content": parts.kept_text}
        output = {"message": message, "model": self.lease["input"].get("model"), "finish_reason": "stopped"}
        return with_big_output_in_file(Outcome(output=output), folder)

    async def _outcome(self, pool: ExecutorPool, folder: Path) -> Outcome:
        try:
            files = await self._fetch(folder)
        except ValueError as error:
            return Outcome(error=Failure("platform", "input_damaged", str(error)))
        work = Work(
            job_id=self.lease["job"],
            attempt=self.lease["number"],
            kind=self.lease["kind"],
            input=self.lease["input"],
            input_files=files,
            folder=folder,
            run_seconds=self.lease["run_seconds"],
            gpus=leased_gpus(self.lease.get("devices")),
            env=self._environment(),
            check=self.lease.get("check"),
        )
        outcome = await self._work(pool, work)
        usage = {name: int(count) for name, count in outcome.usage.items()}
        self._event_log.note(
            "work_done" if outcome.error is None else "work_failed",
            job=self.lease["job"],
            attempt=self.attempt,
            kind=self.lease["kind"],
            request_id=self.lease.get("request_id"),
            **(usage if outcome.error is None else {"reason": outcome.error.reason, "fault": outcome.error.fault}),
        )
        return outcome

    def _environment(self) -> dict[str, str]:
        """What programs are told of the job: its id, its request, and the trace that their own calls may go on with."""
        request_id = self.lease.get("request_id") or ""
        told = {"AITBC_JOB": self.lease["job"], "AITBC_REQUEST_ID": request_id}
        if request_id:
            told["AITBC_TRACEPARENT"] = traceparent_of(request_id, span_id_of(self.attempt))
        return told

    async def _fetch(self, folder: Path) -> dict[str, Path]:
        """Bring the input's artifacts here. Raises `ValueError` for one that is not what it should be."""
        files: dict[str, Path] = {}
        for number, file in enumerate(self.lease["files"]):
            path = folder / f"input-{number}"
            async for tries in attempts_with_backoff():
                try:
                    await self._client.download(file["artifact"], file["digest"], file["bytes"], path)
                    break
                except Unreachable:
                    continue
                except ValueError:
                    path.unlink(missing_ok=True)
                    if tries >= DAMAGED_MAX:  # it is not something on the way that answers for the server
                        raise
                except Refused as refused:
                    raise LeaseLost(str(refused)) from None
            files[file["field"]] = path
        return files

    async def _result(self, outcome: Outcome) -> dict[str, Any]:
        outcome = await self._with_files(outcome)
        output = outcome.output
        if "output" in outcome.output_files:
            output = await self._uploaded(outcome.output_files["output"])
        digest = value_digest(output)
        statement = work_statement(
            job=self.lease["job"],
            attempt=self.attempt,
            token=self.lease["token"],
            miner=self._miner,
            kind=self.lease["kind"],
            input_digest=self.lease["input_digest"],
            output_digest=digest,
        )
        return {
            "token": self.lease["token"],
            "output": output,
            "output_digest": digest,
            "usage": {name: int(count) for name, count in outcome.usage.items()},
            "signature": self._home.key.sign(canonical(statement)),
        }

    async def _with_files(self, outcome: Outcome) -> Outcome:
        """The same outcome, its output naming the files that were made, which are uploaded."""
        made = {name: path for name, path in outcome.output_files.items() if name.startswith(FILES)}
        if not made:
            return outcome
        told = outcome.output_files.get("output")
        output = dict(outcome.output or {}) if told is None else json.loads(await asyncio.to_thread(told.read_bytes))
        output["files"] = {
            name.removeprefix(FILES): await self._uploaded(path) | {"bytes": path.stat().st_size}
            for name, path in made.items()
        }
        return with_big_output_in_file(
            replace(outcome, output=output, output_files={}), next(iter(made.values())).parent
        )

    async def _uploaded(self, file: Path) -> dict[str, str]:
        async for _ in attempts_with_backoff():
            try:
                artifact = await self._client.upload(self.attempt, file)
                return {"artifact": artifact["id"], "digest": artifact["digest"]}
            except Unreachable:
                continue
            except Refused as refused:
                raise LeaseLost(str(refused)) from None
        raise AssertionError("attempts never end")

    async def _report_failure(self, failure: Failure) -> None:
        body = {
            "token": self.lease["token"],
            "fault": failure.fault,
            "reason": failure.reason,
            "message": failure.message[:2000],
        }
        try:
            await self._client.call_until_answered("POST", f"/gpu/leases/{self.attempt}/failure", body, expects=OUTCOME)
        except Refused as refused:
            raise LeaseLost(str(refused)) from None

    async def release(self, reason: str) -> None:
        """Release the lease, in one attempt with a short timeout; otherwise it runs out."""
        body = {"token": self.lease["token"], "reason": reason}
        try:
            path = f"/gpu/leases/{self.attempt}/release"
            await self._client.call("POST", path, body, expects=OUTCOME, seconds=RELEASE_SECONDS)
            self._event_log.note("lease_released", job=self.lease["job"], attempt=self.attempt, reason=reason)
        except (Unreachable, Refused) as error:
            self._event_log.note("lease_not_released", job=self.lease["job"], attempt=self.attempt, reason=str(error))

    def _on_progress(self, progress: Progress) -> None:
        if progress.fraction is not None:
            self.progress = min(max(progress.fraction, 0.0), 1.0)
        if progress.text and self._parts is not None:
            self._parts.add(progress.text)
        for line in progress.lines:
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")  # noqa: TID251 - the machine's own time
            self._log.add(at, line)

    async def _log_loop(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._send_lines()

    async def _send_lines(self) -> None:
        """Send the log lines that wait. What fails is sent again later; the server knows each line by its sequence."""
        pending = self._log.pending
        while pending:
            lines = pending[:LOG_LINES_AT_ONCE]
            body = {"token": self.lease["token"], "lines": lines}
            try:
                await self._client.call("POST", f"/gpu/leases/{self.attempt}/log", body, expects=KEPT)
            except Unreachable:
                return
            except Refused:
                pending.clear()  # nobody keeps them any more
                return
            del pending[: len(lines)]


def leased_gpus(devices: list[dict[str, Any]] | None) -> tuple[Gpu, ...] | None:
    """The GPUs that a lease names; none where it leaves the choice to this miner, as servers before 1.0 always do."""
    if devices is None:
        return None
    return tuple(
        Gpu(device["uuid"], memory_mib=device["memory_mib"], is_shared=not device["is_whole"]) for device in devices
    )


async def deliver(
    client: MinerClient, home: Home, event_log: EventLog, attempt: str, body: dict[str, Any]
) -> str | None:
    """Deliver a result, with retries and backoff, until the answer is definite; returns the code of a refusal.

    Repeating it is harmless: it is paid once.
    """
    async for _ in attempts_with_backoff():
        try:
            path = f"/gpu/leases/{attempt}/result"
            answer = await client.call("POST", path, body, expects=OUTCOME, seconds=60.0)
        except Unreachable as error:
            event_log.note("delivery_postponed", attempt=attempt, reason=str(error))
            continue
        except Refused as refused:
            if refused.status != 401:  # a key that ended says nothing about the result
                home.forget_delivered(attempt)
            event_log.note("result_refused", attempt=attempt, code=refused.code)
            return refused.code
        home.forget_delivered(attempt)
        event_log.note(
            "result_accepted",
            attempt=attempt,
            **{name: answer.get(name) for name in ("job", "state", "receipt", "earned")},
        )
        return None
    raise AssertionError("attempts never end")
