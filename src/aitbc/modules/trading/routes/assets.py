"""The HTTP of assets: what there is beside AITBC, and what an account has of each."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.models.views import AccountAsset, LedgerAsset
from aitbc.modules.trading.routes.positions import short_page
from aitbc.modules.trading.service.assets import AssetDiffers, Assets, TooManyAssets

AssetCode = Annotated[
    str,
    Meta(max_length=12, pattern=r"^[A-Z][A-Z0-9]{1,11}\Z"),
    Meta(
        description="The asset.",
        extra_json_schema={"pattern": "^[A-Z][A-Z0-9]{1,11}$", "examples": ["AITBC", "GOLD"]},
    ),
]


class DefineAsset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something new that accounts may have."""

    code: AssetCode
    """Its code. For example `GOLD`."""
    name: Name
    """What it is called. For example `Gold of the arena`."""


class AssetController(Controller):
    """What accounts may have."""

    tags = ("ledger",)

    @post(
        "/assets",
        operation_id="define_asset",
        summary="Define an asset",
        opt={"permission": "ledger:write", "idempotency": "natural", "errors": (AssetDiffers, TooManyAssets)},
    )
    async def define(
        self, assets: NamedDependency[Assets], who: NamedDependency[Principal], data: JSONBody[DefineAsset]
    ) -> LedgerAsset:
        """Let accounts have one more asset, counted in eight places as AITBC is. It is play money, and stays.

        Nobody has any of it until a deposit gives it.
        """
        return await assets.define(who, data.code, data.name)

    @get(
        "/assets",
        operation_id="list_assets",
        summary="List the assets",
        opt={"permission": "chain:read", "errors": (InvalidCursor,)},
    )
    async def all(
        self, assets: NamedDependency[Assets], limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[LedgerAsset]:
        """List every asset: AITBC first, the others in the order of their codes."""
        return short_page("assets", await assets.all(), limit, cursor, lambda one: one.code)

    @get(
        "/accounts/{account:str}/assets",
        operation_id="list_account_assets",
        summary="Read all balances",
        opt={"permission": "ledger:read", "errors": (HolderNotFound, InvalidCursor)},
    )
    async def of_account(
        self,
        assets: NamedDependency[Assets],
        who: NamedDependency[Principal],
        account: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[AccountAsset]:
        """List what an account has of each asset that it ever had. Yours, or any for an admin."""
        found = await assets.of_account(who, account)
        return short_page("account_assets", found, limit, cursor, lambda one: one.asset)
