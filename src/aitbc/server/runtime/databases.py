"""Opens the schemas of an installation, each in the role of its module and with a connection pool of its own."""

from collections.abc import Sequence

from msgspec import structs

from aitbc.kernel.database.migrations import Part, role_password
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.server.config.settings import DatabaseSettings


class Databases:
    """The schemas of an installation, by name."""

    def __init__(
        self, owner: Target, schemas: Sequence[Part], settings: DatabaseSettings, secret: bytes | None
    ) -> None:
        """The roles' passwords are derived from `secret`; none for the embedded server, whose roles have none."""
        self._owner = owner
        self._schemas = {part.name: part for part in schemas}
        self._settings = settings
        self._secret = secret

    def open(self, name: str) -> Database:
        """A new pool of connections to a schema, in the role of its module."""
        part = self._schemas[name]
        password = None if self._secret is None else role_password(self._secret, part.role)
        return Database(
            name,
            structs.replace(self._owner, user=part.role, password=password),
            list(part.metadata.tables.values()),
            pool_size=self._settings.pool_size,
            acquire_seconds=self._settings.acquire_seconds,
            statement_seconds=self._settings.statement_seconds,
        )
