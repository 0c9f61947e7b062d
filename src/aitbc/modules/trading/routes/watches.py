"""The HTTP of watches."""

from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import ASSET, InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.models.watches import AddressWatch
from aitbc.modules.trading.routes.assets import AssetCode
from aitbc.modules.trading.routes.ledger import Amount
from aitbc.modules.trading.service.watches import MakeWatch, TooManyWatches, Watches, WatchNotFound

WatchedAddress = Annotated[
    str,
    Meta(max_length=31, pattern=r"^(?:acct|mnr)_[0-7][0-9a-hjkmnp-tv-z]{25}\Z"),
    Meta(
        description="The account or miner.",
        extra_json_schema={
            "pattern": "^(?:acct|mnr)_[0-7][0-9a-hjkmnp-tv-z]{25}$",
            "examples": ["acct_01kb2c3d4e5f6g7h8j9kamnpqr"],
        },
    ),
]


class WatchAddress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you want to be told of."""

    address: WatchedAddress
    """The account whose money moves, or the miner whose work is paid. For example `acct_01kb2c3d4e5f6g7h8j9kamnpqr`."""
    above: Amount = "0"
    """How much must move for it to be told, in either direction. For example `10`."""
    asset: AssetCode = ASSET
    """In which asset; miners are paid in AITBC. For example `AITBC`."""
    label: Name | None = None
    """What it is for, in your words. For example `treasury`."""


class WatchController(Controller):
    """Addresses that somebody watches."""

    path = "/watches"
    tags = ("ledger",)

    @post(
        "/",
        operation_id="watch_address",
        summary="Watch an address",
        opt={
            "permission": "watches:write",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, TooManyWatches),
        },
    )
    async def make(
        self,
        address_watches: NamedDependency[Watches],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WatchAddress],
    ) -> AddressWatch:
        """Tell the caller's webhooks (`trading.watched_moved`) of what moves at an address from now on.

        Anybody may watch any address: the chain is open to all. It is told some seconds after it moved.
        """
        command = MakeWatch(
            address=data.address, asset=data.asset, above_units=parse(data.above, zero=True), label=data.label
        )
        return await address_watches.make(who, command, once)

    @get(
        "/",
        operation_id="list_watches",
        summary="List your watches",
        opt={"permission": "chain:read", "errors": (InvalidCursor,)},
    )
    async def watches(
        self,
        address_watches: NamedDependency[Watches],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[AddressWatch]:
        """List what the caller's account watches, in the order in which it began."""
        after = after_id("watches", cursor, "wtch")
        found = await address_watches.page(who, limit=limit + 1, after=after)
        return Page.of("watches", found, limit, lambda one: one.id)

    @get(
        "/{watch:str}",
        operation_id="get_watch",
        summary="Read a watch",
        opt={"permission": "chain:read", "errors": (WatchNotFound,)},
    )
    async def one(
        self, address_watches: NamedDependency[Watches], who: NamedDependency[Principal], watch: FromPath[str]
    ) -> AddressWatch:
        """Read a watch of the caller's account, and how often it told of something."""
        return await address_watches.one(who, watch)

    @delete(
        "/{watch:str}",
        status_code=200,
        operation_id="remove_watch",
        summary="Watch an address no more",
        opt={"permission": "watches:write", "idempotency": "natural", "errors": (WatchNotFound,)},
    )
    async def remove(
        self, address_watches: NamedDependency[Watches], who: NamedDependency[Principal], watch: FromPath[str]
    ) -> AddressWatch:
        """Tell of it no more."""
        return await address_watches.remove(who, watch)
