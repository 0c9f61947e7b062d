"""The face of plugins: all that the other modules may know."""

from datetime import datetime
from typing import Annotated, Protocol

from msgspec import Struct

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.json_schema import one_of

PLUGIN_STATES = ("listed", "revoked")
VERSION_STATES = (
    "received",
    "validating",
    "scanning",
    "quarantined",
    "rejected",
    "passed",
    "errored",
    "yanked",
    "revoked",
)


class Plugin(Struct, frozen=True, kw_only=True):
    """A plugin of the registry."""

    id: str
    """Its namespace and its name. For example `acme.night-price`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    kind: Annotated[str, one_of(("sandboxed", "remote"))]
    """`sandboxed` or `remote`."""
    summary: str
    """What it does. For example `Cheaper at night.`."""
    description: str
    """More about it; may be empty. For example `Half of the price from ten to six.`."""
    category: Annotated[str, one_of(("pricing", "policy", "quality", "other"))]
    """Where it is listed. For example `pricing`."""
    tags: tuple[str, ...]
    """Words by which it is found. For example `["night"]`."""
    license: str
    """Its licence as SPDX names it. For example `MIT`."""
    latest: str | None
    """Its highest version that passed; null while none has. For example `1.0.0`."""
    price: str
    """What a licence costs, in AITBC; `0` for a free one. For example `5`."""
    trial_days: int
    """For how many days it can be tried before it is bought. For example `14`."""
    verified: bool
    """Whether the operator knows whose namespace this is. For example `true`."""
    deprecated: bool
    """Whether its publisher recommends something else by now. For example `false`."""
    state: Annotated[str, one_of(PLUGIN_STATES)]
    """`listed`, or `revoked` by the operator."""
    downloads: int
    """How often it was fetched, counted once for an account, a version and a day. For example `12`."""
    ratings: int
    """How many accounts reviewed it. For example `3`."""
    rating: float | None
    """The average of their ratings, from 1 to 5; null while there is none. For example `4.5`."""
    created_at: datetime
    """When its first version was published."""
    released_at: datetime | None
    """When its latest version passed; null while none has."""


class PluginNotFound(NotFound):
    """There is no such plugin."""

    code = "plugin_not_found"


class PluginsApi(Protocol):
    """What plugins does for other modules."""

    async def plugin(self, plugin: str) -> Plugin:
        """One plugin of the registry, whoever published it. Raises `PluginNotFound`."""
        ...
