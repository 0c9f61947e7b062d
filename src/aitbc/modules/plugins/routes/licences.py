"""The HTTP of licences."""

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.routes.bodies import BuyPlugin
from aitbc.modules.plugins.routes.publishing import READ, WRITE, Once, Who
from aitbc.modules.plugins.service.licences import (
    Licences,
    PluginLicence,
    PluginLicenceNotFound,
    PluginLicensed,
    PluginNotForSale,
    PluginPurchaseRefused,
    PluginRefundOver,
)
from aitbc.modules.trading.api import InsufficientFunds


class PluginLicenceController(Controller):
    """The right to have what is sold."""

    path = "/licences"
    tags = ("plugins",)

    @post(
        "/",
        operation_id="buy_plugin",
        summary="Buy a plugin, or try it",
        opt={
            "permission": WRITE,
            "idempotency": "required",
            "errors": (PluginNotFound, PluginNotForSale, PluginLicensed, InsufficientFunds, PluginPurchaseRefused),
        },
    )
    async def buy(
        self, plugin_licences: NamedDependency[Licences], who: Who, once: Once, data: JSONBody[BuyPlugin]
    ) -> PluginLicence:
        """Buy a licence for the caller's account, or begin a trial. The money lies in escrow while it is refundable."""
        if data.trial:
            return await plugin_licences.try_out(who, data.plugin, once)
        return await plugin_licences.buy(who, data.plugin, once)

    @get(
        "/",
        operation_id="list_plugin_licences",
        summary="List your licences",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        plugin_licences: NamedDependency[Licences],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginLicence]:
        """List the licences of the caller's account from the newest on."""
        after = after_id("plugin_licences", cursor, "plic")
        found = await plugin_licences.page(who, after, limit + 1)
        return Page.of("plugin_licences", found, limit, lambda one: one.id)

    @get(
        "/{licence:str}",
        operation_id="get_plugin_licence",
        summary="Get a licence",
        opt={"permission": READ, "errors": (PluginLicenceNotFound,)},
    )
    async def one(self, plugin_licences: NamedDependency[Licences], who: Who, licence: FromPath[str]) -> PluginLicence:
        """Read a licence of the caller's account."""
        return await plugin_licences.one(who, licence)

    @post(
        "/{licence:str}/refund",
        status_code=200,
        operation_id="refund_plugin_licence",
        summary="Give a licence back",
        opt={
            "permission": WRITE,
            "idempotency": "natural",
            "errors": (PluginLicenceNotFound, PluginRefundOver),
        },
    )
    async def refund(
        self, plugin_licences: NamedDependency[Licences], who: Who, licence: FromPath[str]
    ) -> PluginLicence:
        """Give a licence back within thirty days of its purchase: all of the price returns, and the right ends."""
        return await plugin_licences.refund(who, licence)
