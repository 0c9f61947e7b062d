"""Parts of an installation: settings, secret, and schemas."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.database.migrations import Part
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.tables import Base
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.server_file import is_held, server_file_of
from aitbc.server.config.database_url import target_of
from aitbc.server.config.loading import Loaded, load
from aitbc.server.config.settings import Settings
from aitbc.server.postgres.embedded import EmbeddedPostgres


class ServerFile(Struct, frozen=True, kw_only=True):
    """The file in which a running server describes itself."""

    url: str
    pid: int
    database: Target | None = None
    """The address of the embedded database, as its owner; only the server's own user can connect."""


def settings_of(modules: Sequence[Module], flags: Mapping[str, Any]) -> Loaded:
    """The settings of this process, from every source. Raises `ConfigError`."""
    tables = {module.name: module.settings for module in modules if module.settings is not None}
    return load(flags, os.environ, Path.cwd(), tables, modules=[module.name for module in modules])


def parts(modules: Sequence[Module]) -> list[Part]:
    """The schemas of an installation: the kernel's own and one for each module."""
    return [Part("kernel", Base.metadata), *(Part(module.name, module.metadata) for module in modules)]


def running_server(state: Path) -> ServerFile | None:
    """What the server that runs on this state folder wrote about itself; none where none does."""
    path = server_file_of(state)
    if not is_held(path):
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerFile)
    except (OSError, msgspec.MsgspecError):
        return None


def configured_target(loaded: Loaded) -> Target | None:
    """The database that `database.url` names; none where the embedded one is used. Raises `ConfigError`."""
    url = loaded.settings.database.url
    if url is None:
        return None
    try:
        return target_of(url.reveal())
    except ConfigError as error:
        raise ConfigError(f"{loaded.origins['database.url']}: {error.message}") from None


def secret_of(settings: Settings) -> bytes:
    """The installation's secret: the configured one, or 32 random bytes in a 0600 file, made at the first start."""
    if settings.secret_key is not None:
        return settings.secret_key.reveal().encode()
    path = settings.state_dir / "secret.key"
    if not path.exists():
        write_private(path, os.urandom(32).hex() + "\n")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError:
        raise ConfigError(f"{path} is damaged: it holds 64 hexadecimal digits; restore it from a backup") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def start_embedded(postgres: EmbeddedPostgres) -> Target:
    """Start the embedded server, and return its address as the owner."""
    address = postgres.start()
    return Target(host=address.host, port=address.port, user=address.user, database=address.database)
