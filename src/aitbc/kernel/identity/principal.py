"""Who is asking, and what they may do."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from aitbc.kernel.primitives.errors import Forbidden

PUBLIC = "public"
"""The permission of a route that anyone may call; every other one names a scope, `noun:action`."""
EVERYTHING = "*"

OWN_SCOPES: Mapping[str, Sequence[str]] = {
    "live": ("keys:manage", "self:read", "webhooks:read", "webhooks:write"),
    "miner": ("self:read",),
}
"""What the kernel's own routes let each kind of key do; the manifests of modules say it of theirs."""


def role_scopes(declared: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    """What a new key of each kind may do unless it is given less: what the kernel and every manifest declare, together.

    A `test` key may do what a `live` one may, and an `admin` key everything.
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
    """The caller: an account, the key it came with, and what that key may do."""

    account: str
    """The owner of money, jobs and miners: `acct_…`."""
    key: str
    kind: str
    """`live`, `test`, `miner` or `admin`."""
    scopes: frozenset[str]
    subject: str | None = None
    """The miner that a miner's key speaks for: `mnr_…`."""

    @property
    def is_admin(self) -> bool:
        """Whether this caller operates the platform: it sees what belongs to others."""
        return self.kind == "admin"

    def may(self, permission: str) -> bool:
        """Whether the key holds a scope, literally or by `*`."""
        return permission == PUBLIC or permission in self.scopes or EVERYTHING in self.scopes

    def require(self, permission: str) -> None:
        """Raises `Forbidden` for a key without the scope."""
        if not self.may(permission):
            raise Forbidden(f"This key lacks the scope {permission}.")

    def owns(self, account: str) -> bool:
        """Whether something of this account is the caller's to see."""
        return self.account == account or self.is_admin
