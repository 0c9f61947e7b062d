"""The principal: the authenticated caller of a request, and the scopes of its API key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives.errors import Forbidden
from aitbc.kernel.primitives.json_schema import one_of

PUBLIC = "public"
"""The permission of a route without authentication; every other route names a scope, `noun:action`."""
EVERYTHING = "*"
KeyKind = Annotated[str, one_of(("live", "test", "admin", "miner"))]

OWN_SCOPES: Mapping[str, Sequence[str]] = {
    "live": ("keys:manage", "self:read", "webhooks:read", "webhooks:write"),
    "miner": ("self:read",),
}
"""By kind of key: the scopes for the kernel's own routes; modules declare theirs in their manifests."""


def role_scopes(declared: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    """By kind of key: the scopes of a new key, as the kernel and all manifests declare them.

    A `test` key has the scopes of a `live` key, and an `admin` key has all.
    """
    held: dict[str, set[str]] = {kind: set(scopes) for kind, scopes in OWN_SCOPES.items()}
    for scopes_by_kind in declared:
        for kind, scopes in scopes_by_kind.items():
            if kind not in held:
                raise ValueError(f"there is no kind of key {kind!r} to give scopes to: there are {', '.join(held)}")
            held[kind].update(scopes)
    roles = {kind: frozenset(scopes) for kind, scopes in held.items()}
    return {"admin": frozenset({EVERYTHING}), "test": roles["live"], **roles}


class Principal(Struct, frozen=True):
    """The caller: its account, its API key, and the scopes of that key."""

    account: str
    """The owner of money, jobs and miners: `acct_…`."""
    key: str
    kind: str
    """`live`, `test`, `miner` or `admin`."""
    scopes: frozenset[str]
    subject: str | None = None
    """The miner that a `miner` key belongs to: `mnr_…`."""

    @property
    def is_admin(self) -> bool:
        """Whether this is an operator of the platform, who may see what belongs to others."""
        return self.kind == "admin"

    def may(self, permission: str) -> bool:
        """Whether the key has this scope, by name or by `*`."""
        return permission == PUBLIC or permission in self.scopes or EVERYTHING in self.scopes

    def require(self, permission: str) -> None:
        """Raise `Forbidden` unless the key has this scope."""
        if not self.may(permission):
            raise Forbidden(f"This key lacks the scope {permission}.")

    def owns(self, account: str) -> bool:
        """Whether the caller may see what belongs to this account."""
        return self.account == account or self.is_admin
