"""The installation under examination: facts that several checks ask for, each learned once and only when asked for."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aitbc_cli.client import Answer, Api
from aitbc_cli.doctor.finding import Unknown
from aitbc_cli.exits import NOT_ALLOWED, Stop
from aitbc_cli.packages import has_server, install_server
from aitbc_cli.settings import LOOPBACK, Flags, Where, find, state_folder

ANSWER_SECONDS = 2.0
"""How long the server may take for one answer."""
Fact = TypeVar("Fact")


@dataclass(frozen=True)
class ServerFile:
    """What the server of the state folder wrote down about itself."""

    url: str
    pid: int
    database: Mapping[str, Any] | None
    alive: bool


@dataclass
class Case:
    """One installation, as flags, environment and folders describe it, and the limits that it is checked against."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    flags: Flags = field(default_factory=Flags)
    folder: Path = field(default_factory=Path.cwd)
    system_file: Path | None = None
    """The system's file of settings; none for the usual one."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    free_bytes_min: int = 256 << 20
    """Below this the server calls itself not ready."""
    free_bytes_wanted: int = 2 << 30
    memory_mib_wanted: int = 512
    """What a server, its database and one worker need at least."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _facts: dict[str, "_Learned"] = field(default_factory=dict, repr=False)

    def learn(self, name: str, find_out: Callable[[], Fact]) -> Fact:
        """A fact, found out by whoever asks first; the others wait, and get the same, or the same error."""
        with self._lock:
            learned = self._facts.setdefault(name, _Learned())
        with learned.lock:
            if not learned.done:
                try:
                    learned.value = find_out()
                except Exception as error:  # noqa: BLE001 - raised to everybody who asks
                    learned.error = error
                learned.done = True
        if learned.error is not None:
            raise learned.error.with_traceback(None)
        value: Fact = learned.value
        return value

    # This machine

    @property
    def state(self) -> Path:
        """The state folder of this machine's server."""
        try:
            return self.learn("state", lambda: state_folder(self.environ))
        except Stop as stop:
            raise Unknown(f"the state folder is not known: {stop.message}", "aitbc doctor --only client") from None

    @property
    def server_path(self) -> Path:
        """The file of the server that runs on the state folder, or where one would write it."""
        from aitbc.kernel.primitives.server_file import server_file_of

        return server_file_of(self.state)

    @property
    def server_file(self) -> ServerFile | None:
        """What a server left in the state folder; none without one. Raises `ValueError` for what is none of its."""
        return self.learn("server file", lambda: _server_file(self.server_path))

    @property
    def running(self) -> ServerFile | None:
        """The server of the state folder, if its process lives and listens where it said: its pid may be reused."""
        return self.learn("running", self._running)

    def _running(self) -> ServerFile | None:
        from aitbc.kernel.primitives.port_owner import process_on_port

        try:
            found = self.server_file
        except (OSError, ValueError):
            return None
        if found is None or not found.alive:
            return None
        listening = process_on_port(urlsplit(found.url).port or 0)
        return found if listening is not None and listening.endswith(f"(pid {found.pid})") else None

    def load(self) -> Any:
        """The server's settings, as they hold here. Raises `ConfigError`; `Unknown` where no server is installed."""
        return self.learn("settings", self._load)

    def _load(self) -> Any:
        if not has_server():
            raise Unknown("the server is not installed here", install_server())
        from aitbc.app import MODULES
        from aitbc.kernel.primitives.settings_files import SYSTEM_FILE
        from aitbc.server.config.loading import load

        tables = {module.name: module.settings for module in MODULES if module.settings is not None}
        names = [module.name for module in MODULES]
        return load({}, self.environ, self.folder, tables, modules=names, system_file=self.system_file or SYSTEM_FILE)

    @property
    def settings(self) -> Any:
        """The server's settings, for checks that need them to be in order."""
        from aitbc.kernel.primitives.errors import ConfigError

        try:
            return self.load().settings
        except ConfigError:
            raise Unknown("the configuration cannot be used", "aitbc doctor --only configuration") from None

    # The server

    @property
    def where(self) -> Where:
        """The server to ask, and the key for it."""
        try:
            return self.find()
        except Stop:
            raise Unknown("it is not known which server to ask", "aitbc doctor --only client") from None

    def find(self) -> Where:
        """The same; raises the `Stop` that says what is wrong with it."""
        return self.learn("where", lambda: find(self.flags, self.environ))

    @property
    def is_local(self) -> bool:
        """Whether the server to ask is one of this machine."""
        return (urlsplit(self.where.url).hostname or "") in LOOPBACK

    @property
    def start(self) -> str:
        """The command that starts a server where the command line asks for one."""
        where = self.where
        port = urlsplit(where.url).port
        is_chosen = where.url_origin in ("flag", "AITBC_URL") or where.url_origin.startswith("profile")
        return f"aitbc serve --port {port}" if is_chosen and port not in (None, 8080) else "aitbc serve"

    @property
    def restart(self) -> str:
        """The command that starts this machine's server anew."""
        running = self.running
        if running is None:
            return self.start
        return f"kill {running.pid}; tail --pid={running.pid} -f /dev/null; {self.start}"  # it may end requests first

    def health(self) -> Answer:
        """The answer of /healthz. Raises `Stop` when there is none."""
        return self.learn("health", lambda: self._api(self.where).look("/healthz", public=True))

    def ask(self, path: str, *, public: bool = False, **query: Any) -> Answer:
        """One look at the server. Raises `Unknown` where it does not answer, or not to this caller."""
        try:
            self.health()
        except Stop:
            raise Unknown("the server does not answer", "aitbc doctor --only server") from None
        try:
            return self.learn(f"{path} {query}", lambda: self._api(self.where).look(path, public=public, **query))
        except Stop as stop:
            fix = "aitbc doctor --only key" if stop.exit_code == NOT_ALLOWED else None
            raise Unknown(stop.message, fix) from None

    def read(self, path: str, **query: Any) -> Any:
        """The JSON at a path. Raises `Unknown` where this key may not see it."""
        answer = self.ask(path, **query)
        if answer.status == 200:
            return answer.json()
        fix = "aitbc doctor --only key" if answer.status == 401 else None
        raise Unknown(answer.detail, fix)

    def ask_as(self, key: str | None, path: str) -> Answer:
        """One look at the server with another key, a miner's for instance, or with none. Raises `Unknown`."""
        try:
            self.health()
            return self._api(replace(self.where, key=key)).look(path, public=True)
        except Stop:
            raise Unknown("the server does not answer", "aitbc doctor --only server") from None

    def figures(self) -> dict[str, float]:
        """The figures of /metrics that have no labels. Raises `Unknown` without the scope for it."""
        answer = self.ask("/metrics")
        if answer.status != 200:
            raise Unknown(answer.detail)
        lines = (line.rpartition(" ") for line in answer.content.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if "{" not in name}

    def _api(self, where: Where) -> Api:
        return Api(where, seconds=ANSWER_SECONDS)


@dataclass
class _Learned:
    """A fact, or the error that it ended in."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    done: bool = False
    value: Any = None
    error: Exception | None = None


def _server_file(path: Path) -> ServerFile | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("url"), str)
        or not isinstance(content.get("pid"), int)
    ):
        raise ValueError("it does not say where a server listens")
    return ServerFile(content["url"], content["pid"], content.get("database"), lives(content["pid"]))


def lives(pid: int) -> bool:
    """Whether there is a process with this number; one that has ended and was not yet waited for is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return _answers(pid) if not Path("/proc/self").exists() else False
    except (OSError, IndexError):
        return True
    return state != "Z"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
