"""Installs: what the operator lets this platform ask, with which permissions, and what becomes of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.manifest import Manifest, added_and_removed, fits, manifest_of, newly_asked
from aitbc.kernel.hooks.points import NotHere, PluginFailed
from aitbc.kernel.hooks.tables import STATES, InstalledPlugin
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotDone, NotFound
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.models.tables import InstallRow, PluginRow, VersionRow
from aitbc.modules.plugins.service.catalogue import PluginLicenceNeeded, note_user, require_licence
from aitbc.modules.plugins.service.figures import count
from aitbc.modules.plugins.service.releases import PluginVersionNotFound
from aitbc.modules.plugins.service.rulings import Rulings

NOT_ALLOWED = "not_allowed"
"""Of a plugin that governance does not let run: all of its versions are off."""


class PluginNotInstalled(NotFound):
    """This plugin is not installed here."""

    code = "plugin_not_installed"


class PluginPermissionsMissing(Conflict):
    """The plugin asks for permissions that were not granted; the message names them."""

    code = "plugin_permissions_missing"


class PluginWithdrawn(Conflict):
    """This version was yanked, revoked or never passed: it is not installed."""

    code = "plugin_withdrawn"


class PluginNotLoadable(Conflict):
    """This version does not load here; the message says why. What was installed before stays."""

    code = "plugin_not_loadable"


class PluginCannotRun(NotDone):
    """This installation lacks what the plugin runs in."""

    code = "plugin_cannot_run"


class InstallPlugin(Struct, frozen=True, kw_only=True):
    """What the operator wants installed."""

    plugin: str
    version: str | None
    """None for the highest that passed and fits."""
    grants: tuple[str, ...]
    priority: int
    override: bool
    """Although it was revoked."""


class PluginInstall(Struct, frozen=True, kw_only=True):
    """A version of a plugin that was installed here."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    version: str
    """The version. For example `1.0.0`."""
    state: Annotated[str, one_of(STATES)]
    """`active`, `previous`, `off`, `revoked`, or `failed` where it did not load. For example `active`."""
    reason: str
    """Why it is not active; empty for one that is. For example `replaced by 1.1.0`."""
    trouble: str
    """What it did wrong last in the process that answers; empty for nothing. For example `it ran out of fuel`."""
    hooks: tuple[str, ...]
    """The hooks at which it is asked. For example `["price.1"]`."""
    grants: tuple[str, ...]
    """What it may do beside answering. For example `["log"]`."""
    priority: int
    """Those with the least are asked first. For example `100`."""
    digest: str
    """The digest that was checked when it was loaded. For example `sha256:9f86…`."""
    changed_at: datetime
    """When its state last changed."""


class PluginUpgrade(Struct, frozen=True, kw_only=True):
    """What an upgrade, or a first installation, would change."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    installed: str | None
    """The version that is active; null where none is. For example `1.0.0`."""
    version: str
    """The version that would be. For example `1.1.0`."""
    fits: bool
    """Whether it fits this version of AITBC. For example `true`."""
    aitbc: str
    """The versions that it fits. For example `>=0.1,<1`."""
    hooks_added: tuple[str, ...]
    """Where it would be asked beside. For example `["judge_result.1"]`."""
    hooks_removed: tuple[str, ...]
    """Where it would be asked no more."""
    permissions_added: tuple[str, ...]
    """What it asks for beside what it has now. For example `["storage"]`."""
    permissions_removed: tuple[str, ...]
    """What it does not ask for any more."""
    permissions_missing: tuple[str, ...]
    """What would have to be granted anew. For example `["storage"]`."""


class Installs:
    """Installs plugins, and takes them away."""

    def __init__(self, db: Database, extensions: Extensions, hooks: Hooks, rulings: Rulings) -> None:
        self._db = db
        self._extensions = extensions
        self._hooks = hooks
        self._rulings = rulings

    async def install(self, who: Principal, wanted: InstallPlugin) -> PluginInstall:
        """Install a version in place of the one before. It is loaded first: one that does not load changes nothing.

        Raises `PluginNotFound`, `PluginVersionNotFound`, `PluginNotAllowed`, `PluginWithdrawn`,
        `PluginPermissionsMissing`, `PluginLicenceNeeded`, `PluginNotLoadable`, `PluginCannotRun`.
        """
        candidate = await self._candidate(who, wanted)
        missing = newly_asked(manifest_of(candidate.manifest).permissions, wanted.grants)
        if missing:
            raise PluginPermissionsMissing(
                f"{wanted.plugin} {candidate.version} asks for {', '.join(missing)}: grant them, or leave it.",
                missing=list(missing),
            )
        try:
            (await self._extensions.loaded(candidate)).close()
        except NotHere as failure:
            raise PluginCannotRun(f"This plugin cannot run: {failure}.") from None
        except PluginFailed as failure:
            raise PluginNotLoadable(f"This version does not load: {failure}.") from None
        before = await self._extensions.read(wanted.plugin)
        await self._note(who, candidate, before, override=wanted.override)
        await self._extensions.install(candidate)
        await self._extensions.refresh()
        return await self.one(wanted.plugin)

    async def _candidate(self, who: Principal, wanted: InstallPlugin) -> InstalledPlugin:
        async with self._db.unit_of_work() as uow:
            plugin = await uow.find(PluginRow, wanted.plugin, missing=PluginNotFound)
            await self._rulings.require(uow, wanted.plugin)
            theirs = select(VersionRow).where(VersionRow.plugin == wanted.plugin)
            if wanted.version is not None:
                row = await uow.session.scalar(theirs.where(VersionRow.version == wanted.version))
            else:
                row = await self._newest(uow.session, wanted.plugin)
            if row is None:
                raise PluginVersionNotFound
            if row.state != "passed" and not (row.state == "revoked" and wanted.override):
                raise PluginWithdrawn(f"This version is {row.state}: it is not installed.", state=row.state)
            await require_licence(uow, plugin, who.account)
            artifact = await uow.session.scalar(select(VersionRow.artifact).where(VersionRow.id == row.id))
        return InstalledPlugin(
            plugin=row.plugin,
            version=row.version,
            digest=row.digest,
            public_key=row.public_key,
            signature=row.signature,
            manifest=row.manifest,
            artifact=artifact or b"",
            grants=tuple(sorted(set(wanted.grants) & set(manifest_of(row.manifest).permissions))),
            priority=wanted.priority,
            state="active",
            reason="",
            changed_at=now(),
        )

    @staticmethod
    async def _newest(session: AsyncSession, plugin: str) -> VersionRow | None:
        """The highest version that passed and fits; where none fits, the highest that passed."""
        wanted = select(VersionRow).where(VersionRow.plugin == plugin, VersionRow.state == "passed")
        rows = (await session.scalars(wanted.order_by(VersionRow.number.desc()).limit(100))).all()
        release = this_build().version
        return next((row for row in rows if fits(manifest_of(row.manifest).aitbc, release)), rows[0] if rows else None)

    @retrying
    async def _note(
        self, who: Principal, candidate: InstalledPlugin, before: InstalledPlugin | None, *, override: bool
    ) -> None:
        """Write down who installed what, and count it: once for a version that was not the active one."""
        values = {
            "version": candidate.version,
            "account": who.account,
            "override": override,
            "installed_at": now(),
        }
        writing = insert(InstallRow).values(plugin=candidate.plugin, **values)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(writing.on_conflict_do_update(index_elements=[InstallRow.plugin], set_=values))
            if before is None or before.version != candidate.version:
                await count(uow, candidate.plugin, candidate.version, "installs")
                if before is not None:
                    await count(uow, candidate.plugin, before.version, "uninstalls")
            await note_user(uow, candidate.plugin, who.account)
            details = {"version": candidate.version, "grants": list(candidate.grants), "override": override}
            await uow.audit(who.account, who.key, "plugins.install", candidate.plugin, **details)

    async def upgrade(self, plugin: str, version: str | None) -> PluginUpgrade:
        """What installing a version would change. Raises `PluginNotFound`, `PluginVersionNotFound`."""
        async with self._db.unit_of_work() as uow:
            await uow.find(PluginRow, plugin, missing=PluginNotFound)
            if version is None:
                row = await self._newest(uow.session, plugin)
            else:
                theirs = select(VersionRow).where(VersionRow.plugin == plugin, VersionRow.state == "passed")
                row = await uow.session.scalar(theirs.where(VersionRow.version == version))
        if row is None:
            raise PluginVersionNotFound
        active = await self._extensions.read(plugin)
        manifest = manifest_of(row.manifest)
        before: Manifest | None = None if active is None else manifest_of(active.manifest)
        return PluginUpgrade(
            plugin=plugin,
            installed=None if active is None else active.version,
            version=row.version,
            fits=fits(manifest.aitbc, this_build().version),
            aitbc=manifest.aitbc,
            permissions_missing=newly_asked(manifest.permissions, active.grants if active else ()),
            **added_and_removed(before, manifest),
        )

    async def all(self) -> Sequence[PluginInstall]:
        """Everything that was ever installed, by name and version."""
        return [self._view(one) for one in await self._extensions.all()]

    async def one(self, plugin: str) -> PluginInstall:
        """The version of a plugin that is active. Raises `PluginNotInstalled`."""
        found = await self._extensions.read(plugin)
        if found is None:
            raise PluginNotInstalled
        return self._view(found)

    async def remove(self, who: Principal, plugin: str, *, forget: bool) -> int:
        """Ask a plugin no more, with `forget` also without what it keeps. Raises `PluginNotInstalled`."""
        active = await self._extensions.read(plugin)
        row = await self._forget(who, plugin, active.version if active else None)
        if row is None and active is None:
            raise PluginNotInstalled
        changed = await self._extensions.turn_off(plugin, state="off", reason="removed by the operator")
        if forget:
            await self._extensions.forget_values(plugin)
        await self._extensions.refresh()
        return changed

    async def restore(self, who: Principal, plugin: str) -> PluginInstall:
        """Put the version before the active one back in its place. Raises `PluginNotInstalled`, `PluginNotAllowed`."""
        active = await self._extensions.read(plugin)
        if active is None:
            raise PluginNotInstalled
        async with self._db.unit_of_work() as uow:
            await self._rulings.require(uow, plugin)
        back = await self._extensions.fall_back(plugin, active.version, "taken back by the operator")
        if back is None:
            raise PluginNotInstalled("There is no version before this one.")
        restored = await self._extensions.read(plugin, back)
        if restored is not None:
            await self._note(who, restored, active, override=False)
        await self._extensions.refresh()
        return await self.one(plugin)

    @retrying
    async def _forget(self, who: Principal, plugin: str, version: str | None) -> InstallRow | None:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get(InstallRow, plugin)
            if row is None:
                return None
            await uow.session.execute(delete(InstallRow).where(InstallRow.plugin == plugin))
            if version is not None:
                await count(uow, plugin, version, "uninstalls")
            await uow.audit(who.account, who.key, "plugins.remove", plugin)
            return row

    async def reconcile(self) -> None:
        """Turn off what was revoked, whatever the process that revoked it came to, what governance does not let run,
        and what has no licence any more.
        """
        async with self._db.reading() as session:
            rows = (await session.scalars(select(InstallRow).order_by(InstallRow.plugin))).all()
        for row in rows:
            state, reason = await self._standing(row)
            if state is not None:
                version = None if state == NOT_ALLOWED else row.version
                state = "off" if state == NOT_ALLOWED else state
                await self._extensions.turn_off(row.plugin, state=state, reason=reason, version=version)

    async def _standing(self, row: InstallRow) -> tuple[str | None, str]:
        """The state that an installed plugin is to have, and why; none for one that stays as it is."""
        async with self._db.unit_of_work() as uow:
            plugin = await uow.session.get_one(PluginRow, row.plugin)
            if (refusal := await self._rulings.refusal(uow, row.plugin)) is not None:
                return NOT_ALLOWED, refusal
            wanted = select(VersionRow).where(VersionRow.plugin == row.plugin, VersionRow.version == row.version)
            version = await uow.session.scalar(wanted)
            if version is not None and version.state == "revoked" and not row.override:
                return "revoked", version.reason
            try:
                await require_licence(uow, plugin, row.account)
            except PluginLicenceNeeded:
                return "off", "its licence ended"
        return None, ""

    def _view(self, one: InstalledPlugin) -> PluginInstall:
        return PluginInstall(
            plugin=one.plugin,
            version=one.version,
            state=one.state,
            reason=one.reason,
            trouble=self._hooks.trouble(one.plugin) if one.state == "active" else "",
            hooks=manifest_of(one.manifest).hooks,
            grants=one.grants,
            priority=one.priority,
            digest=one.digest,
            changed_at=one.changed_at,
        )
