"""Who is meant: legacy clients name themselves in a header, in the query or in the body.

The API key says which account acts. The name only says which of the account's own miners, wallets or agents is meant.
"""

from collections.abc import Mapping
from typing import Any

from litestar.di import NamedDependency
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.guard import FOREIGN_KEY_HEADER
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.errors import name_of

Who = NamedDependency[Principal]
"""The parameter `who` of a handler: the account and what its key may do."""
Once = NamedDependency[IdempotencyKey]
"""The parameter `once` of a handler: the request's Idempotency-Key."""


def without_own_key(text: str | None, headers: Mapping[str, str]) -> str | None:
    """A text that a client keeps here, masked if it is the key that came with this very request, of whatever form."""
    sent = {headers.get(name, "") for name in ("x-api-key", FOREIGN_KEY_HEADER.decode())}
    sent.add(headers.get("authorization", "").partition(" ")[2])
    return text if text is None or text.strip() not in sent - {""} else "********"


class CallerName(Struct, frozen=True):
    """Where clients of one kind put their name."""

    header: str
    """In lower case, for instance `x-miner-id`."""
    field: str
    """In the query and in the body, for instance `miner_id`."""

    def find(self, headers: Mapping[str, str], query: Mapping[str, Any], in_body: str | None = None) -> str | None:
        """The name in the header, else in the query, else `in_body`; none where there is none. Raises `Invalid`."""
        found = headers.get(self.header) or query.get(self.field) or in_body
        return None if found is None else self.check(found)

    def check(self, text: Any) -> str:
        """The name in its normal form, 1 to 100 characters. Raises `Invalid`."""
        return name_of(text, f"/{self.field}")
