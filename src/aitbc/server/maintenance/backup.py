"""Backup and restore of a whole installation: all schemas, keys and artifacts in one private file.

The database is dumped in one snapshot. The file holds all secrets of the installation. It is restored into an empty
place only, and what was restored is verified.
"""

import asyncio
import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.migrations import head_of, migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Invalid, Unavailable
from aitbc.kernel.primitives.version import this_build
from aitbc.server.config.installation import parts, settings_of
from aitbc.server.config.settings import Settings
from aitbc.server.maintenance.database import client_program, owner_target
from aitbc.server.postgres.embedded import binaries
from aitbc.server.runtime.bootstrap import build

FORMAT = 1
KEYS = ("node.key", "secret.key", "admin.key", "local.key")
MANIFEST, DUMP, KEYS_FOLDER, ARTIFACTS = "manifest.json", "database.dump", "keys", "artifacts"
UPLOADING = "incoming-"
"""How the files of artifacts begin that are being uploaded."""
NAME_LENGTH_MAX = 200
UNKNOWN_BEFORE_17 = b"SET transaction_timeout = 0;"
"""The one line of a dump's head that an older server than the one that was dumped refuses."""
HEAD_LINES = 100


class BackupManifest(Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    version: str
    """Of the program that made it."""
    created_at: datetime
    schema: dict[str, str]
    """The migration that each part of the database stood on."""


class NotABackup(Invalid):
    """This file is no backup of an installation."""

    code = "not_a_backup"


class NewerBackup(Conflict):
    """The backup was made by a newer program; restore it with that one."""

    code = "newer_backup"


class PlaceNotEmpty(Conflict):
    """There is an installation already; a backup is restored into an empty place only."""

    code = "place_not_empty"


class BackupFailed(Unavailable):
    """PostgreSQL's own program for it did not succeed."""

    code = "backup_failed"


class RestoreResult(Struct, frozen=True, kw_only=True):
    """The result of a restore."""

    manifest: BackupManifest
    artifacts: int
    verified: tuple[str, ...]
    """The modules whose contents were verified."""


def backup(modules: Sequence[Module], file: Path, flags: Mapping[str, Any] | None = None) -> BackupManifest:
    """Write a backup of the configured installation, running or not; `flags` are those of the server, if it asks.

    Raises `BackupFailed`.
    """
    loaded = settings_of(modules, flags or {})
    manifest = BackupManifest(
        format=FORMAT,
        version=this_build().version,
        created_at=now(),
        schema={part.name: head_of(part) for part in parts(modules)},
    )
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with tempfile.TemporaryDirectory(dir=file.resolve().parent, prefix=".aitbc-backup-") as folder:
            dump = Path(folder) / DUMP
            with owner_target(loaded) as (owner, _):
                _run("pg_dump", owner, "--format=custom", f"--file={dump}")
            _write_archive(fresh, manifest, dump, loaded.settings.state_dir)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return manifest


def _write_archive(file: Path, manifest: BackupManifest, dump: Path, state: Path) -> None:
    """The manifest, the dump, the keys and the artifacts, in one private file that is on the disk when this returns."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
        _add(archive, MANIFEST, msgspec.json.encode(manifest))
        archive.add(dump, DUMP, recursive=False)
        for name in KEYS:
            if (state / name).is_file():
                _add(archive, f"{KEYS_FOLDER}/{name}", (state / name).read_bytes())
        for path in sorted((state / ARTIFACTS).rglob("*")):
            if path.is_dir() or path.name.startswith(UPLOADING):
                continue
            with contextlib.suppress(FileNotFoundError):  # past its retention by now
                archive.add(path, str(path.relative_to(state)), recursive=False)
        archive.close()
        out.flush()
        os.fsync(out.fileno())


def restore(modules: Sequence[Module], file: Path) -> RestoreResult:
    """Restore a backup into the configured place, which must be empty, and verify it.

    Raises `NotABackup`, `NewerBackup`, `PlaceNotEmpty`, `BackupFailed`.
    """
    loaded = settings_of(modules, {})
    settings, state = loaded.settings, loaded.settings.state_dir
    if state.exists() and any(state.iterdir()):
        raise PlaceNotEmpty(f"{state} is not empty; a backup is restored into an empty place only.")
    with _open_archive(file) as archive:
        manifest = _manifest(archive, file)
        _refuse_newer(manifest, modules)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            artifacts = _unpack(archive, state)
            with tempfile.TemporaryDirectory(prefix="aitbc-restore-") as folder:
                dump = Path(folder) / DUMP
                with dump.open("wb") as out:
                    shutil.copyfileobj(_member(archive, DUMP, file), out)
                with owner_target(loaded) as (owner, is_embedded):
                    asyncio.run(_restore_database(settings, modules, owner, dump, is_embedded=is_embedded))
                    verified = asyncio.run(_verify(settings, modules, owner))
        except BaseException:
            for made in state.iterdir():  # it was empty before
                shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink()
            raise
    return RestoreResult(manifest=manifest, artifacts=artifacts, verified=verified)


def _open_archive(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, mode="r:")
    except (tarfile.TarError, OSError) as error:
        raise NotABackup(f"{file} is no backup of an installation: {error}") from None


async def _restore_database(
    settings: Settings, modules: Sequence[Module], owner: Target, dump: Path, *, is_embedded: bool
) -> None:
    """Create roles and schemas, load the dump in one transaction, and migrate."""
    if await _has_installation(owner):
        raise PlaceNotEmpty(
            f"The database {owner.database} holds an installation; a backup is restored into an empty place only."
        )
    secret = None if is_embedded else bytes.fromhex((settings.state_dir / "secret.key").read_text().strip())
    await migrate(owner, parts(modules), secret=secret, provision=settings.database.provision)
    await asyncio.to_thread(_load, owner, dump)
    await migrate(owner, parts(modules), secret=secret, provision=settings.database.provision)


async def _verify(settings: Settings, modules: Sequence[Module], owner: Target) -> tuple[str, ...]:
    """Verify every module that can be verified; raises what it finds."""
    runtime = await build(settings, modules, owner=owner)
    verified = []
    try:
        for name, service in runtime.wired.services.items():
            if hasattr(service, "verify"):
                await service.verify()
                verified.append(name)
    finally:
        for database in runtime.databases.values():
            await database.close()
    return tuple(verified)


async def _has_installation(owner: Target) -> bool:
    """Whether a server has been started on this database before."""
    connection = await connect(owner.connect_arguments(application="aitbc restore", statement_seconds=30))
    try:
        return (
            await connection.fetchval("SELECT to_regclass('kernel.accounts')") is not None
            and await connection.fetchval("SELECT 1 FROM kernel.accounts LIMIT 1") is not None
        )
    finally:
        await connection.close()


def _load(owner: Target, dump: Path) -> None:
    """Load a dump in one transaction. Raises `BackupFailed`.

    As a script through psql, and not by pg_restore itself: its first lines may hold a setting that an older server
    lacks.
    """
    unpack = [str(binaries() / "pg_restore"), "--clean", "--if-exists", "--no-owner", "--file=-", str(dump)]
    command, environment = _client_command("psql", owner)
    command += ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=said) as script,
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=said, stderr=said) as psql,
    ):
        assert script.stdout is not None and psql.stdin is not None
        with contextlib.suppress(BrokenPipeError), psql.stdin as into:
            for line, _ in zip(script.stdout, range(HEAD_LINES), strict=False):
                into.write(b"" if line.strip() == UNKNOWN_BEFORE_17 else line)
            shutil.copyfileobj(script.stdout, into)
            if script.wait() != 0:  # what came of it is not all of it
                into.write(b"\\warn the dump is damaged\nSELECT 1 / 0;\n")
        script.stdout.close()
        ended = (script.wait(), psql.wait())
        said.seek(0)
        words = said.read().decode(errors="replace").strip()
    if ended != (0, 0):
        raise BackupFailed(f"The dump could not be restored: {words[-500:]}")


def _run(program: str, owner: Target, *arguments: str) -> None:
    """Run a client program of PostgreSQL on this database. Raises `BackupFailed` with its last output."""
    command, environment = _client_command(program, owner)
    ended = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BackupFailed(f"{program} did not succeed: {ended.stderr.strip()[-500:]}")


def _client_command(program: str, owner: Target) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of a client program of PostgreSQL for this database."""
    command = [
        client_program(program, owner),
        "-h",
        owner.host,
        "-p",
        str(owner.port),
        "-U",
        owner.user,
        "-d",
        owner.database,
    ]
    return command, {**os.environ, **owner.environment()}


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(now().timestamp())
    archive.addfile(member, io.BytesIO(content))


def _manifest(archive: tarfile.TarFile, file: Path) -> BackupManifest:
    try:
        return msgspec.json.decode(_member(archive, MANIFEST, file).read(), type=BackupManifest)
    except msgspec.MsgspecError as error:
        raise NotABackup(f"{file} is no backup of an installation: {error}") from None


def _member(archive: tarfile.TarFile, name: str, file: Path) -> IO[bytes]:
    try:
        member = archive.extractfile(name)
    except (KeyError, tarfile.TarError):
        member = None
    if member is None:
        raise NotABackup(f"{file} is no backup of an installation: it lacks {name}")
    return member


def _refuse_newer(manifest: BackupManifest, modules: Sequence[Module]) -> None:
    known = {part.name: part for part in parts(modules)}
    unknown = [
        name for name, revision in manifest.schema.items() if name not in known or revision > head_of(known[name])
    ]
    if manifest.format != FORMAT or unknown:
        raise NewerBackup(
            f"The backup was made by version {manifest.version}, which knows more than this one "
            f"({', '.join(unknown) or f'format {manifest.format}'}); restore it with that version."
        )


def _unpack(archive: tarfile.TarFile, state: Path) -> int:
    """Unpack keys and artifacts; returns how many artifacts there were."""
    artifacts = 0
    for member in archive:
        path = Path(member.name)
        if not member.isfile() or path.is_absolute() or ".." in path.parts or len(member.name) > NAME_LENGTH_MAX:
            continue
        if path.parts[0] == KEYS_FOLDER and path.name in KEYS and len(path.parts) == 2:
            target = state / path.name
        elif path.parts[0] == ARTIFACTS:
            target = state / path
            artifacts += 1
        else:
            continue
        _extract(archive, member, target)
    return artifacts


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a member to a new file that only its owner can read."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        shutil.copyfileobj(source, out)
