"""The state folder: whose it is, who can look into it, and what was left in it."""

import os
import pwd
import shlex
import stat
from pathlib import Path

from aitbc_cli.doctor.case import Case, lives
from aitbc_cli.doctor.finding import Check, Finding, failed, ok, skipped, warning
from aitbc_cli.settings import ADMIN_KEY_FILE

SECRET_FILES = ("secret.key", "node.key")
POSTGRES = "postgres"
MAJOR = "18"


def folder(case: Case) -> Finding:
    """The state folder is there, ours, private, and can be written."""
    path = case.state
    quoted = shlex.quote(str(path))
    closed = next((each for each in reversed(path.parents) if not os.access(each, os.X_OK) and each.exists()), None)
    if closed is not None:
        return failed(f"{path} lies behind {closed}, which this user may not enter", _as(closed.stat().st_uid))
    if not path.exists():
        if _writable_parent(path) is None:
            fix = f"sudo install -d -m 700 -o {_name(os.geteuid())} {quoted}"
            return failed(f"{path} is not there, and this user may not make it", fix)
        return skipped(f"{path} is not there: the first start of a server makes it", "aitbc serve")
    if not path.is_dir():
        return failed(f"{path} is no folder", f"mv {quoted} {quoted}.old")
    found = path.stat()
    if found.st_uid != os.geteuid():
        message = f"{path} belongs to {_name(found.st_uid)}, and this is {_name(os.geteuid())}"
        return failed(message, _as(found.st_uid))
    if found.st_mode & 0o077:
        return failed(f"others can enter {path} (mode {stat.S_IMODE(found.st_mode):04o})", f"chmod 700 {quoted}")
    if not os.access(path, os.W_OK | os.X_OK):
        mode = stat.S_IMODE(found.st_mode)
        is_mode = mode & 0o300 != 0o300
        fix = f"chmod 700 {quoted}" if is_mode else f"sudo mount -o remount,rw $(findmnt -no TARGET -T {quoted})"
        return failed(f"{path} cannot be written (mode {mode:04o})", fix)
    return ok(f"{path}, mode {stat.S_IMODE(found.st_mode):04o}")


def admin_key(case: Case) -> Finding:
    """The operator's key is there, and nobody else can read it."""
    path = case.state / ADMIN_KEY_FILE
    quoted = shlex.quote(str(path))
    try:
        found = path.stat()
    except FileNotFoundError:
        if (case.state / "secret.key").exists():
            return warning(f"{path} is not there; a start of the server makes a new one", case.restart)
        return skipped("no server has run here: its first start makes the key", "aitbc serve")
    if found.st_uid != os.geteuid():
        message = f"{path} belongs to {_name(found.st_uid)}, and this is {_name(os.geteuid())}"
        return failed(message, _as(found.st_uid))
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        return failed(f"others can read the operator's key in {path} (mode {mode:04o})", f"chmod 600 {quoted}")
    from aitbc.kernel.crypto.api_key import well_formed

    if not well_formed(path.read_text(errors="replace").strip()):
        return failed(f"{path} holds no key", f"rm {quoted}; {case.restart}")
    return ok(f"{path}, mode 0600")


def secrets(case: Case) -> Finding:
    """Nobody else can read the secrets of the installation."""
    present = [path for name in SECRET_FILES if (path := case.state / name).exists()]
    if not present:
        return skipped("no server has run here: its first start makes them", "aitbc serve")
    opened = [path for path in present if path.stat().st_mode & 0o077]
    if opened:
        names = ", ".join(path.name for path in opened)
        return failed(f"others can read {names} in {case.state}", f"chmod 600 {shlex.join(map(str, opened))}")
    return ok(", ".join(path.name for path in present))


def server_file(case: Case) -> Finding:
    """What a server said about itself is still true."""
    path = case.server_path
    remove = f"rm {shlex.quote(str(path))}"
    try:
        found = case.server_file
    except (OSError, ValueError) as error:
        return failed(f"{path} cannot be used: {error}", f"{remove}; {case.start}")
    if found is None:
        return skipped(f"no server runs on {case.state}", case.start)
    if not found.alive:
        return failed(f"{path} is stale: its server, process {found.pid}, is gone", f"{remove}; aitbc serve")
    if case.running is None:
        program = _program(found.pid) or "unknown"
        message = f"{path} is stale: process {found.pid} ({program}) does not listen at {found.url}"
        return failed(message, f"{remove}; aitbc serve")
    return ok(f"process {found.pid} serves {found.url}")


def lock(case: Case) -> Finding:
    """The embedded database is held by the server that says so, or by nobody."""
    path = case.state / POSTGRES / "lock"
    try:
        found = path.stat()
        owner = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ok("nobody holds the database's folder")
    holder = holder_of(found.st_dev, found.st_ino)
    if holder is None:
        return ok(f"left behind by process {owner or 'unknown'}, which is gone; the next start takes it")
    running = case.running
    if running is not None and holder == running.pid:
        return ok(f"held by the server, process {holder}")
    message = f"process {holder} holds the database's folder, and is not the server that {case.server_path.name} names"
    return warning(message, f"ps -fp {holder} && kill {holder}")


def data(case: Case) -> Finding:
    """The embedded database's data is where it is said to be, and of this version."""
    if case.settings.database.url is not None:
        return skipped("database.url names a PostgreSQL of your own")
    home = case.state / POSTGRES
    pointer = home / "data-is-elsewhere.txt"
    if pointer.exists():
        home = Path(pointer.read_text(errors="replace").partition("\n")[0])
        if not home.is_dir():
            return failed(
                f"{pointer} leads to {home}, which is not there", f"rm {shlex.quote(str(pointer))}; aitbc serve"
            )
    version = home / "data" / "PG_VERSION"
    try:
        found = version.read_text().strip()
    except PermissionError:
        return ok(f"{home}, private to its own account")
    except FileNotFoundError:
        if (home / "data").exists():
            fix = f"mv {shlex.quote(str(home / 'data'))} {shlex.quote(str(home / 'data.broken'))}; aitbc serve"
            return failed(f"{home / 'data'} is no cluster of PostgreSQL", fix)
        return skipped("there is no data yet: the first start makes it", "aitbc serve")
    if found != MAJOR:
        fix = f"mv {shlex.quote(str(home / 'data'))} {shlex.quote(str(home / f'data.{found}'))}; aitbc serve"
        return failed(f"{home / 'data'} is of PostgreSQL {found}, and this program has {MAJOR}", fix)
    return ok(f"{home}, PostgreSQL {found}")


def holder_of(device: int, inode: int) -> int | None:
    """The process that holds a lock on a file, from the kernel's own list: to try the lock could block somebody."""
    place = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for fields in (line.split() for line in lines):
        if len(fields) > 5 and fields[5] == place and fields[4].isdecimal() and lives(int(fields[4])):
            return int(fields[4])
    return None


def _program(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:100]
    except OSError:
        return None


def _writable_parent(path: Path) -> Path | None:
    parent = next(each for each in path.parents if each.exists())
    return parent if os.access(parent, os.W_OK | os.X_OK) else None


def _as(uid: int) -> str:
    """The command that looks again as the one who may."""
    return f"sudo -u {_name(uid)} aitbc doctor"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # the form that sudo and chown take


CHECKS = (
    Check("state-folder", "whose the state is, and who can enter it", folder),
    Check("admin-key", "the operator's key", admin_key),
    Check("secrets", "the secrets of the installation", secrets),
    Check("server-file", "what the running server wrote down", server_file),
    Check("lock", "who holds the embedded database", lock),
    Check("data", "the data of the embedded database", data),
)
