"""The HTTP of the operator: what is installed here."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.models.tables import PluginRuling
from aitbc.modules.plugins.routes.bodies import InstallPluginHere, PluginRemoved, RemovePlugin
from aitbc.modules.plugins.routes.publishing import OPERATE, READ, Who
from aitbc.modules.plugins.service.catalogue import PluginLicenceNeeded
from aitbc.modules.plugins.service.installs import (
    Installs,
    PluginCannotRun,
    PluginInstall,
    PluginNotInstalled,
    PluginNotLoadable,
    PluginPermissionsMissing,
    PluginUpgrade,
    PluginWithdrawn,
)
from aitbc.modules.plugins.service.releases import PluginVersionNotFound
from aitbc.modules.plugins.service.rulings import PluginNotAllowed, Rulings

VersionWord = Annotated[str, Meta(max_length=20)]


class PluginInstallController(Controller):
    """What this platform asks."""

    path = "/installs"
    tags = ("plugins",)

    @post(
        "/",
        operation_id="install_plugin",
        summary="Install a plugin",
        opt={
            "permission": OPERATE,
            "idempotency": "natural",
            "errors": (
                *(PluginNotFound, PluginVersionNotFound, PluginNotAllowed, PluginWithdrawn),
                *(PluginPermissionsMissing, PluginLicenceNeeded, PluginNotLoadable, PluginCannotRun),
            ),
        },
    )
    async def install(
        self, plugin_installs: NamedDependency[Installs], who: Who, data: JSONBody[InstallPluginHere]
    ) -> PluginInstall:
        """Install a version, or upgrade to it. It is loaded first; where that fails, what was there stays."""
        return await plugin_installs.install(who, data.command())

    @get(
        "/",
        operation_id="list_plugin_installs",
        summary="List what is installed",
        opt={"permission": OPERATE, "errors": (InvalidCursor,)},
    )
    async def all(
        self,
        plugin_installs: NamedDependency[Installs],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginInstall]:
        """List every version that was ever installed here, with its state."""
        after = Page.position("plugin_installs", cursor) or ""
        found = [one for one in await plugin_installs.all() if _place(one) > after]
        return Page.of("plugin_installs", found[: limit + 1], limit, _place)

    @get(
        "/{plugin:str}",
        operation_id="get_plugin_install",
        summary="Get what is installed of a plugin",
        opt={"permission": OPERATE, "errors": (PluginNotInstalled,)},
    )
    async def one(self, plugin_installs: NamedDependency[Installs], plugin: FromPath[str]) -> PluginInstall:
        """Read the version of a plugin that is asked here."""
        return await plugin_installs.one(plugin)

    @get(
        "/{plugin:str}/upgrade",
        operation_id="plan_plugin_upgrade",
        summary="See what an upgrade changes",
        opt={"permission": OPERATE, "errors": (PluginNotFound, PluginVersionNotFound)},
    )
    async def upgrade(
        self,
        plugin_installs: NamedDependency[Installs],
        plugin: FromPath[str],
        version: FromQuery[VersionWord | None] = None,
    ) -> PluginUpgrade:
        """See which hooks and permissions an upgrade, or a first installation, would add and remove."""
        return await plugin_installs.upgrade(plugin, version)

    @post(
        "/{plugin:str}/remove",
        status_code=200,
        operation_id="remove_plugin",
        summary="Remove a plugin",
        opt={"permission": OPERATE, "idempotency": "natural", "errors": (PluginNotInstalled,)},
    )
    async def remove(
        self,
        plugin_installs: NamedDependency[Installs],
        who: Who,
        plugin: FromPath[str],
        data: JSONBody[RemovePlugin],
    ) -> PluginRemoved:
        """Ask a plugin no more; what it keeps stays unless it is to be forgotten."""
        changed = await plugin_installs.remove(who, plugin, forget=data.forget)
        return PluginRemoved(plugin=plugin, versions=changed)

    @post(
        "/{plugin:str}/restore",
        status_code=200,
        operation_id="restore_plugin",
        summary="Take an upgrade back",
        opt={"permission": OPERATE, "idempotency": "natural", "errors": (PluginNotInstalled, PluginNotAllowed)},
    )
    async def restore(
        self, plugin_installs: NamedDependency[Installs], who: Who, plugin: FromPath[str]
    ) -> PluginInstall:
        """Put the version before the active one back in its place."""
        return await plugin_installs.restore(who, plugin)


class PluginRulingController(Controller):
    """What governance decided about plugins."""

    path = "/rulings"
    tags = ("plugins",)

    @get(
        "/",
        operation_id="list_plugin_rulings",
        summary="List what was decided about plugins",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def all(
        self,
        plugin_rulings: NamedDependency[Rulings],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginRuling]:
        """List the plugins that a proposal has allowed or withdrawn, by name, with the latest of each."""
        found = await plugin_rulings.page(Page.position("plugin_rulings", cursor) or "", limit + 1)
        return Page.of("plugin_rulings", found, limit, lambda one: one.plugin)


def _place(one: PluginInstall) -> str:
    return f"{one.plugin} {one.version}"
