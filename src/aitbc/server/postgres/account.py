"""The account the embedded PostgreSQL runs as.

PostgreSQL refuses to run as root. Anybody else runs it as himself; root runs it as an unprivileged account that exists
already (no account is ever created), and goes on with whoever owns the data of earlier runs.
"""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

PREFERRED = ("postgres", "nobody")
"""Whom root runs the server as, the first that exists."""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the message says what, why, and what to do about it."""


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def is_current_user(self) -> bool:
        """Whether this process already is that account."""
        return self.uid == os.geteuid()


def choose_account(wanted: str | None, data: Path) -> Account:
    """The account that runs the server: ourselves, or, for root, `wanted`, the owner of existing data, or a usual one.

    Raises `EmbeddedPostgresError` when the data belongs to somebody else or no account will do.
    """
    owner = _owner(data)
    if os.geteuid() != 0:
        return _current_user(wanted, data, owner)
    if wanted is not None:
        account = _named(wanted)
        if owner is not None and owner.uid not in (0, account.uid):
            raise EmbeddedPostgresError(
                f"PostgreSQL cannot run as {wanted}: its data in {data} belongs to {owner.name}. "
                f"Leave the account to the owner of the data, or hand it over: chown -R {wanted} '{data}'"
            )
        return account
    if owner is not None and owner.uid != 0:
        return owner
    for name in PREFERRED:
        try:
            return _named(name)
        except EmbeddedPostgresError:
            continue
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and this machine has neither an account 'postgres' nor 'nobody'. "
        "Run AITBC as an ordinary user, or name an account for the database."
    )


def _current_user(wanted: str | None, data: Path, owner: Account | None) -> Account:
    uid = os.geteuid()
    current = Account(_name_of(uid), uid, os.getegid())
    if wanted is not None and wanted != current.name:
        raise EmbeddedPostgresError(
            f"PostgreSQL cannot run as {wanted}: only root may change the account, and this is {current.name}. "
            "Leave the account out, or start AITBC as root."
        )
    if owner is not None and owner.uid != uid:
        raise EmbeddedPostgresError(
            f"PostgreSQL cannot use {data}: it belongs to {owner.name}, and this is {current.name}. "
            f"Run AITBC as {owner.name}, choose another folder, or hand it over: chown -R {current.name} '{data}'"
        )
    return current


def _owner(data: Path) -> Account | None:
    try:
        found = data.lstat()
    except FileNotFoundError:
        return None
    return Account(_name_of(found.st_uid), found.st_uid, found.st_gid)


def _named(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL cannot run as {name}: this machine has no such account. Name one that exists, or create it: "
            f"useradd --system {name}"
        ) from None
    if entry.pw_uid == 0:
        raise EmbeddedPostgresError(f"PostgreSQL refuses to run as root, and {name} is root. Name another account.")
    return Account(name, entry.pw_uid, entry.pw_gid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"  # a container may run as a number that has no name


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the permission bits let the account walk into this folder, from the root down. Symbolic links count."""
    chain = {folder, *folder.parents}
    real = folder.resolve()
    chain |= {real, *real.parents}
    return all(_allows(account, path.stat(), stat.S_IXUSR) for path in chain)


def can_execute(account: Account, file: Path) -> bool:
    """Whether the permission bits let the account read and run this file."""
    found = file.stat()
    may = _allows(account, found, stat.S_IXUSR) and _allows(account, found, stat.S_IRUSR)
    return may and can_enter(account, file.parent)


def _allows(account: Account, found: os.stat_result, owner_bit: int) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & owner_bit)
    if found.st_gid == account.gid:
        return bool(found.st_mode & owner_bit >> 3)
    return bool(found.st_mode & owner_bit >> 6)


def make_folder(path: Path, account: Account) -> None:
    """A new private folder of the account. Raises `FileExistsError` when there is anything under that name already."""
    path.mkdir(mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(folder, 0o700)  # whatever the umask was
        if not account.is_current_user:
            os.fchown(folder, account.uid, account.gid)
    finally:
        os.close(folder)
