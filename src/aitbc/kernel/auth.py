"""Who is asking, and what they may do."""

from msgspec import Struct

from aitbc.kernel.errors import Forbidden

PUBLIC = "public"
"""The permission of a route that anyone may call; every other one names a scope, `noun:action`."""
EVERYTHING = "*"

ROLE_SCOPES: dict[str, frozenset[str]] = {
    "admin": frozenset({EVERYTHING}),
    "live": frozenset(
        {"jobs:create", "jobs:read", "artifacts:write", "artifacts:read", "ledger:read", "chain:read", "miners:read"}
        | {"miners:enrol", "miners:manage", "faucet:use", "keys:manage", "self:read"}
    ),
    "miner": frozenset({"miners:work", "artifacts:write", "artifacts:read", "chain:read", "self:read"}),
}
ROLE_SCOPES["test"] = ROLE_SCOPES["live"]
"""What a new key of each kind may do unless it is given less."""


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
