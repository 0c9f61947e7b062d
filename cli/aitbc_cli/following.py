"""Wait for a job and stream its events, through broken connections and restarts; Ctrl-C leaves the job running."""

import json
import time
from collections.abc import Iterator
from typing import Any

from aitbc_cli.client import FOREIGN, part
from aitbc_cli.command import Call
from aitbc_cli.exits import FAILED, INTERRUPTED, TIMED_OUT, UNAVAILABLE, Stop
from aitbc_cli.terminal import progress, safe, say

PATH = "/api/v1/ai/jobs"
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
POLL_SECONDS = 20
ROUND_TRIP_SECONDS = 0.5
"""How much of the remaining time is kept for the round trip."""
SILENCE_SECONDS = 45.0
"""The server sends a heartbeat every 15 seconds; three of them missed is a broken connection."""
UNREACHABLE_SECONDS = 120.0
"""How long the server may be unreachable, for instance while it restarts, before we give up."""
PAUSE_SECONDS = 1.0
MESSAGE_MAX = 300


class Limits:
    """Two limits: the deadline that was set, and how long the server may be unreachable."""

    def __init__(self, job: str, seconds: float | None, *, seen: bool = False) -> None:
        self._job = job
        self.seen = seen
        """Whether the server answered before, so that it may come back."""
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._unreachable_since: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; none without one. Raises `Stop` when it has passed."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise Stop(
                f"{self._job} has not ended within {self._seconds:g} s; it goes on",
                exit_code=TIMED_OUT,
                code="timed_out",
                hint=how_to_resume(self._job),
                job=self._job,
            )
        return left

    def answered(self) -> None:
        """The server answered."""
        self.seen, self._unreachable_since = True, None

    def unreachable(self, problem: Stop) -> None:
        """The server did not answer: wait, or give up. Raises `Stop`."""
        is_foreign = self.seen and problem.code == FOREIGN  # a proxy answers while the server is away
        if not is_foreign and (
            problem.exit_code not in (UNAVAILABLE, TIMED_OUT) or problem.code in ("tls_failed", "no_api_key")
        ):
            raise problem
        if self.seen:
            self.left  # noqa: B018 - raises when the time is up
        elif "status" not in problem.details:  # it may never have been there
            raise problem
        now = time.monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = now
            say(f"{problem.message}; trying again")
        left = self.left
        if now - self._unreachable_since > UNREACHABLE_SECONDS:
            problem.hint = f"the job goes on by itself; {how_to_resume(self._job)}"
            raise problem
        time.sleep(PAUSE_SECONDS if left is None else min(PAUSE_SECONDS, left))


def how_to_resume(job: str) -> str:
    """How to wait for the job again, and how to stop it."""
    return f"come back with: aitbc job wait {job}   stop it with: aitbc job cancel {job}"


def wait(call: Call, job: str, *, seen: bool = False) -> dict[str, Any]:
    """The job once it has ended; a server that was `seen` a moment ago is retried. Raises `Stop`, also for Ctrl-C."""
    limits = Limits(job, call.seconds, seen=seen)
    try:
        with progress(f"waiting for {job}") as shown:
            while True:
                left = limits.left
                seconds = POLL_SECONDS if left is None else min(POLL_SECONDS, max(left - ROUND_TRIP_SECONDS, left / 2))
                try:
                    api, path = call.api_for(left), f"{PATH}/{part(job)}"
                    answer: dict[str, Any] = (
                        api.get(f"{path}/wait?seconds={seconds:.1f}", seconds=float(seconds))
                        if limits.seen
                        else api.get(path)
                    )
                    has_ended = answer["state"] in ENDED
                except Stop as problem:
                    limits.unreachable(problem)
                    continue
                limits.answered()
                if has_ended:
                    return answer
                shown.update(f"{job} is {answer['state']} ({answer['reason']})")
    except KeyboardInterrupt:
        raise detached(job) from None


def detached(job: str, *, streams: bool = False) -> Stop:
    """What Ctrl-C ends with: detached, the job goes on."""
    hint = how_to_resume(job)
    if streams:
        hint = (
            f"go on with: aitbc job watch {job}   end it and pay for what came: aitbc job stop {job}   "
            f"end it for nothing: aitbc job cancel {job}"
        )
    return Stop(f"detached; {job} goes on", exit_code=INTERRUPTED, code="interrupted", hint=hint, job=job)


def stream(call: Call, job: str) -> dict[str, Any]:
    """Write a job's text as it comes, or a JSON line for each event; returns the ended job. Raises `Stop`."""
    attempt = None
    try:
        for event in events(call, job):
            if not call.out.is_for_people:
                call.out.json_line(event)
            elif event["event"] == "part":
                if attempt not in (None, event["data"]["attempt"]):
                    call.out.text("")
                    say(f"attempt {attempt} did not come to its end; another miner begins anew")
                attempt = event["data"]["attempt"]
                call.out.stream.write(safe(str(event["data"]["text"]), lines=True))
            call.out.stream.flush()
    except KeyboardInterrupt:
        if attempt is not None:
            call.out.text("")
        raise detached(job, streams=True) from None
    if attempt is not None:
        call.out.text("")
    answer: dict[str, Any] = call.api.get(f"{PATH}/{part(job)}")
    return answer


def events(call: Call, job: str) -> Iterator[dict[str, Any]]:
    """What happens to a job until it has ended, from its beginning on: nothing twice, nothing missed. Raises `Stop`."""
    limits, last = Limits(job, call.seconds), None
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last is not None else {})}
        left = limits.left
        try:
            with call.api_for(left).stream(f"{PATH}/{part(job)}/events", headers, seconds=SILENCE_SECONDS) as flow:
                limits.answered()
                for event in _events_of(flow.lines()):
                    last = event["id"] or last
                    yield event
                    if event["event"] == "state" and event["data"].get("state") in ENDED:
                        return
            if call.api_for(limits.left).get(f"{PATH}/{part(job)}")["state"] in ENDED:
                return
            problem = Stop("the server ended the stream", exit_code=UNAVAILABLE, code="connection_broken")
        except Stop as stop:
            problem = stop
        limits.unreachable(problem)


def _events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events out of lines; a comment is a heartbeat."""
    event: dict[str, Any] = {"id": None, "event": "message"}
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield {**event, "data": json.loads("\n".join(data))}
            event, data = {"id": None, "event": "message"}, []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field in ("id", "event"):
            event[field] = value


def outcome(job: dict[str, Any]) -> int:
    """The exit code for a job that has ended; why it did not succeed is said on standard error."""
    if job["state"] == "succeeded":
        return 0
    last = job["history"][-1] if job.get("history") else None
    message = f": {last['message']}" if last and last.get("message") else ""
    fault = f", fault of the {job['fault']}" if job["fault"] not in ("none", "unknown") else ""
    say(f"aitbc: {job['id']} {job['state']} ({job['reason']}{fault}){message[:MESSAGE_MAX]}; nothing was paid")
    say(f"  why: aitbc job explain {job['id']}")
    return FAILED
