"""The server at a glance."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aitbc_cli.client import Answer, Api, part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import DONE, NOT_ALLOWED, UNAVAILABLE, Stop
from aitbc_cli.output import Column
from aitbc_cli.terminal import progress, say
from aitbc_cli.times import length, read

ALL_SECONDS = 10.0
"""How long everything together may take, unless --timeout says otherwise."""
UNREADY_SECONDS = 3.0
"""How long a server that is not ready is asked for the rest: it may be waiting for its database, and we would too."""
COUNTED_MAX = 1000
"""So many jobs or miners of each state are counted; beyond it is said that there are more."""
PAGE_ROWS = 200
JOB_STATES = ("queued", "leased", "running", "succeeded", "failed", "canceled", "expired")
MINER_STATES = ("online", "draining", "offline", "enrolled", "removed")
STARTED = "process_start_time_seconds"
LINES = ("server", "version", "ready", "uptime", "key", "balance", "miners", "jobs", "block")
app = noun("status", "One screen: server, miners, jobs, blocks, balance.", alone=True)


class Unseen(Exception):
    """A part that cannot be shown, and why."""


@command(app, "status", examples=["aitbc status", "aitbc status --json --fields server.ready,jobs", "aitbc status -q"])
def status(call: Call) -> int:
    """Show the server, your key, balance, miners and jobs, and the last block on one screen.

    What this key may not see is named as such, and null in JSON. Exit code 0 only if the server answered and is ready;
    6 when it is not ready or leaves a part unanswered, 4 when it refuses the key.
    """
    with progress("asking the server"):
        summary = _Status(call).summary()
    if call.out.is_for_people and not call.options.fields:
        call.out.one(_for_people(summary), [Column(name.upper(), name) for name in LINES])
    else:
        call.out.one(summary, [Column(name.upper(), name) for name in summary], name="state")
    if summary["state"] == "not ready":
        say(f"aitbc: the server is not ready: {', '.join(summary['server']['failing'])}\n  `aitbc doctor` says more")
        return UNAVAILABLE
    return {"ready": DONE, "refused": NOT_ALLOWED}.get(summary["state"], UNAVAILABLE)


class _Status:
    """What the server says about itself, part by part; a part that is refused says so, and the others are shown."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seconds = call.seconds or ALL_SECONDS
        self._api = call.api_for(self._seconds)
        self._where = call.where
        self._unseen: dict[str, str] = {}
        self._silent = False

    def summary(self) -> dict[str, Any]:
        """Everything, as a program reads it; a part that cannot be seen is null, and `unseen` says why."""
        server = self._server()
        key = self._try("key", lambda: self._get("/api/v1/identity/keys/self"))
        if isinstance(key, dict):
            key = {**key, "origin": self._where.key_origin}
        server["started_at"] = self._try("uptime", self._started)
        summary = {
            "state": "ready" if server["ready"] else "not ready",
            "server": server,
            "key": key,
            "balance": self._try("balance", lambda: self._balance(key)),
            "miners": self._try("miners", lambda: self._counts("/api/v1/gpu/miners", MINER_STATES)),
            "jobs": self._try("jobs", lambda: self._counts("/api/v1/ai/jobs", JOB_STATES)),
            "block": self._try("block", self._block),
            "unseen": self._unseen,
        }
        if server["ready"] and self._silent:
            summary["state"] = "not answering"
        elif server["ready"] and REFUSED in self._unseen.values():
            summary["state"] = "refused"
        return summary

    def _server(self) -> dict[str, Any]:
        """The parts that need no key. Raises `Stop` where there is no such server."""
        nobody = Api(replace(self._where, key=None), seconds=self._seconds)  # a key may take the database to look at
        readiness, version = nobody.look("/readyz", public=True), nobody.look("/version", public=True)
        ready, build = readiness.json(), version.json()
        if not isinstance(ready, dict) or not isinstance(ready.get("ready"), bool) or not isinstance(build, dict):
            why = readiness.detail if readiness.status not in (200, 503) else "it does not say whether it is ready"
            raise Stop(
                f"{self._where.url} does not seem to be an AITBC server: {why}",
                code="not_aitbc",
                hint="check the URL: it is where `aitbc serve` says that it listens",
            )
        if not ready["ready"]:
            self._api = self._call.api_for(min(self._seconds, UNREADY_SECONDS))
        facts: dict[str, Any] = {"url": self._where.url, "url_origin": self._where.url_origin}
        facts |= {name: build.get(name) for name in ("version", "api", "commit")}
        return {**facts, "ready": ready["ready"], "failing": ready["failing"]}

    def _started(self) -> str:
        answer = self._granted("/metrics")
        for line in answer.content.decode(errors="replace").splitlines():
            if line.startswith(f"{STARTED} "):
                moment = datetime.fromtimestamp(float(line.split()[1]), UTC)
                return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
        raise Unseen("the server does not say")

    def _balance(self, key: Any) -> Any:
        if not isinstance(key, dict):
            raise Unseen(self._unseen["key"])
        return self._get(f"/api/v1/trading/accounts/{part(key['account'])}")

    def _block(self) -> dict[str, Any]:
        head = self._get("/api/v1/trading/blocks/head")
        age = max((datetime.now(UTC) - read(head["time"])).total_seconds(), 0.0)
        return {**{name: head[name] for name in ("height", "hash", "time", "records")}, "age_seconds": round(age, 1)}

    def _counts(self, path: str, states: tuple[str, ...]) -> dict[str, Any]:
        """How many there are in each state, up to `COUNTED_MAX`; `more` names the states that have more."""
        counts: dict[str, Any] = {}
        more = []
        for state in states:
            counts[state], has_more = self._count(path, state)
            if has_more:
                more.append(state)
        return {**counts, "more": more}

    def _count(self, path: str, state: str) -> tuple[int, bool]:
        count, cursor = 0, None
        while True:
            page = self._get(path, status=state, limit=PAGE_ROWS, cursor=cursor)
            count, cursor = count + len(page["data"]), page["next_cursor"]
            if not page["has_more"] or count >= COUNTED_MAX:
                return count, bool(page["has_more"])

    # Asking

    def _try(self, name: str, find: Any) -> Any:
        try:
            return find()
        except Unseen as unseen:
            self._unseen[name] = str(unseen)
        except Stop as stop:
            self._unseen[name] = stop.message
            self._silent = True
        return None

    def _get(self, path: str, **query: Any) -> Any:
        body = self._granted(path, **query).json()
        if body is None:
            raise Unseen("the answer is not JSON")
        return body

    def _granted(self, path: str, **query: Any) -> Answer:
        if self._where.key is None:
            raise Unseen("needs an API key")
        answer: Answer = self._api.look(path, **query)
        if answer.status == 401:
            raise Unseen(REFUSED)
        if answer.status == 403 and "lacks the scope" in answer.detail:
            raise Unseen(f"needs {answer.detail.rstrip('.').rpartition(' ')[2]}")
        if answer.status == 404:
            raise Unseen("none yet")
        if answer.status != 200:
            self._silent = self._silent or answer.status >= 500
            raise Unseen(answer.detail)
        return answer


WHOSE = {True: "everybody's", False: "your own"}
REFUSED = "the server refuses this key"


def _for_people(summary: dict[str, Any]) -> dict[str, str]:
    """One line for each part."""
    server, unseen = summary["server"], summary["unseen"]
    started = server["started_at"]
    lines = {
        "server": f"{server['url']} ({server['url_origin']})",
        "version": f"{server['version']}, API {server['api']}" + _commit(server["commit"]),
        "ready": "ready" if server["ready"] else f"not ready: {', '.join(server['failing'])}",
        "uptime": started and length(max((datetime.now(UTC) - read(started)).total_seconds(), 0.0)),
        "key": summary["key"] and "{kind} key of {account}, from {origin}".format_map(summary["key"]),
        "balance": summary["balance"] and "{available} available, {held} held".format_map(summary["balance"]),
        "miners": summary["miners"] and _counted(summary["miners"], summary["key"]),
        "jobs": summary["jobs"] and _counted(summary["jobs"], summary["key"]),
        "block": summary["block"] and f"{summary['block']['height']}, {length(summary['block']['age_seconds'])} old",
    }
    return {name: str(line or f"- ({unseen.get(name, 'unknown')})") for name, line in lines.items()}


def _counted(counts: dict[str, Any], key: dict[str, Any] | None) -> str:
    """`2 queued, 1000+ succeeded (everybody's)`; whose they are is known only where the key is."""
    more = counts["more"]
    states = [
        f"{count}{'+' if state in more else ''} {state}" for state, count in counts.items() if count and state != "more"
    ]
    words = ", ".join(states) or "none"
    return words if key is None else f"{words} ({WHOSE[key['kind'] == 'admin']})"


def _commit(commit: str | None) -> str:
    return f", commit {commit[:10]}" if commit else ""
