"""Installed plugins: kept in the kernel's schema, and followed by each process, so that all ask the same ones."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from msgspec import MsgspecError
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.hooks.engine import compiled
from aitbc.kernel.hooks.hooks import Extension, Hooks
from aitbc.kernel.hooks.manifest import Manifest, fits, is_signed, manifest_of, package_digest
from aitbc.kernel.hooks.points import HOOKS, NotHere, PluginFailed
from aitbc.kernel.hooks.remote import Post, Remote
from aitbc.kernel.hooks.sandbox import Sandbox
from aitbc.kernel.hooks.tables import ExtensionCallsRow, ExtensionRow, ExtensionValueRow, InstalledPlugin
from aitbc.kernel.hooks.trusted import trusted_plugins
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.version import this_build

log = structlog.get_logger("aitbc.hooks")


class Extensions:
    """The installed plugins of this installation, and in this process those that are loaded."""

    def __init__(self, db: Database, hooks: Hooks, key: Key, post: Post) -> None:
        self._db = db
        self._hooks = hooks
        self._key = key
        self._post = post
        self._refreshing = asyncio.Lock()
        self._seen: dict[str, tuple[str, datetime]] = {}
        """By plugin: the version that this process has loaded, or has found that it cannot, and when it was changed."""

    @property
    def poll_seconds(self) -> float:
        """How often each process looks at what is installed."""
        return self._hooks.settings.poll_seconds

    # --- what each process does ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the packages that the settings name, and what is installed now; what cannot be is left out."""
        for plugin in trusted_plugins(self._hooks.settings.trusted):
            self._hooks.load(plugin)
        await self._follow()

    async def run(self) -> None:
        """Follow what is installed, until cancelled."""
        while True:
            await asyncio.sleep(self._hooks.settings.poll_seconds)
            await self._follow()

    async def _follow(self) -> None:
        try:
            await self.refresh()
            await self.flush()
        except AppError as error:
            log.warning("plugins_not_followed", reason=error.message)
        except Exception:
            log.exception("plugins_not_followed")

    async def refresh(self) -> None:
        """Load what was installed or changed since, and unload what was removed, turned off or revoked."""
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        row = ExtensionRow
        async with self._db.reading() as session:
            found = await session.execute(select(row.plugin, row.version, row.changed_at).where(row.state == "active"))
            active = {plugin: (version, changed_at) for plugin, version, changed_at in found}
        for plugin in self._seen.keys() - active.keys():
            self._hooks.unload(plugin)
            del self._seen[plugin]
        for plugin in sorted(active):
            if self._seen.get(plugin) != active[plugin]:
                await self._load(plugin, active[plugin][0])
                self._seen[plugin] = active[plugin]

    async def _load(self, plugin: str, version: str) -> None:
        installed = await self.read(plugin, version)
        if installed is None or installed.state != "active":
            return
        try:
            self._hooks.load(await self.loaded(installed))
        except PluginFailed as failure:
            log.error("plugin_not_loaded", plugin=plugin, version=version, reason=str(failure))
            self._hooks.unload(plugin)
            if not isinstance(failure, NotHere):
                await self.fall_back(plugin, version, str(failure))
        else:
            log.info("plugin_loaded", plugin=plugin, version=version)

    async def loaded(self, installed: InstalledPlugin) -> Extension:
        """The plugin, ready to be asked.

        Raises `PluginFailed` with the reason for one that was modified, is not signed, does not fit or does not work.
        """
        manifest = checked(installed)
        if manifest.kind == "remote":
            return Remote(manifest, installed.public_key, self._key, self._post, priority=installed.priority)
        module = await asyncio.to_thread(compiled, installed.artifact)
        sandbox = Sandbox(manifest, module, self._hooks.settings, priority=installed.priority)
        sandbox.permissions = frozenset(installed.grants) & frozenset(manifest.permissions)
        if "storage" in sandbox.permissions:
            sandbox.values.renew(await self.values(manifest.name))
        await asyncio.to_thread(sandbox.try_out)
        return sandbox

    async def flush(self) -> None:
        """Write what plugins keep, and what became of their calls."""
        for name, extension in self._hooks.loaded().items():
            if isinstance(extension, Sandbox) and "storage" in extension.permissions:
                await self._write_values(name, extension.values.take_changes())
                extension.values.renew(await self.values(name))
        counts = self._hooks.take_counts()
        if not counts:
            return
        try:
            await self._write_calls(
                [
                    {
                        "plugin": name,
                        "version": version,
                        "day": now().date(),
                        "calls": one.calls,
                        "failures": one.failures,
                    }
                    for (name, version), one in sorted(counts.items())
                ]
            )
        except BaseException:
            self._hooks.give_back(counts)
            raise

    @retrying
    async def _write_values(self, plugin: str, changed: Mapping[bytes, bytes]) -> None:
        if not changed:
            return
        rows = [{"plugin": plugin, "key": key, "value": value} for key, value in sorted(changed.items())]
        writing = insert(ExtensionValueRow).values(rows)
        keys = [ExtensionValueRow.plugin, ExtensionValueRow.key]
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(
                writing.on_conflict_do_update(index_elements=keys, set_={"value": writing.excluded.value})
            )

    @retrying
    async def _write_calls(self, rows: Sequence[Mapping[str, Any]]) -> None:
        row = ExtensionCallsRow
        writing = insert(row).values(list(rows))
        added = {name: getattr(row, name) + writing.excluded[name] for name in ("calls", "failures")}
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(
                writing.on_conflict_do_update(index_elements=[row.plugin, row.version, row.day], set_=added)
            )

    # --- what the operator does ------------------------------------------------------------------------------------

    async def read(self, plugin: str, version: str | None = None) -> InstalledPlugin | None:
        """A version as it was installed, or the one that is active; none where there is none."""
        wanted = select(ExtensionRow).where(ExtensionRow.plugin == plugin)
        wanted = wanted.where(ExtensionRow.state == "active" if version is None else ExtensionRow.version == version)
        async with self._db.reading() as session:
            row = await session.scalar(wanted)
            return None if row is None else row.value()

    async def all(self) -> Sequence[InstalledPlugin]:
        """Everything that was ever installed, by name and version."""
        wanted = select(ExtensionRow).order_by(ExtensionRow.plugin, ExtensionRow.version)
        async with self._db.reading() as session:
            return [row.value() for row in await session.scalars(wanted)]

    @retrying
    async def install(self, installed: InstalledPlugin) -> None:
        """Make a version the active one of its plugin; the one before it stays as the previous one."""
        row = ExtensionRow
        values = {name: getattr(installed, name) for name in InstalledPlugin.__struct_fields__}
        values |= {"grants": list(installed.grants), "state": "active", "reason": "", "changed_at": now()}
        writing = insert(row).values(**values)
        others = update(row).where(row.plugin == installed.plugin, row.version != installed.version)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(others.where(row.state == "previous").values(state="off", reason="replaced"))
            await uow.session.execute(
                others.where(row.state == "active").values(
                    state="previous", reason=f"replaced by {installed.version}", changed_at=now()
                )
            )
            await uow.session.execute(
                writing.on_conflict_do_update(index_elements=[row.plugin, row.version], set_=values)
            )

    @retrying
    async def fall_back(self, plugin: str, version: str, reason: str) -> str | None:
        """Mark a version as failed, and make the previous one active again; its number, or none where there is none."""
        row = ExtensionRow
        async with self._db.unit_of_work() as uow:
            failed = update(row).where(row.plugin == plugin, row.version == version, row.state == "active")
            marked = await uow.session.execute(
                failed.values(state="failed", reason=reason[:500], changed_at=now()).returning(row.version)
            )
            if marked.first() is None:
                return None
            before = update(row).where(row.plugin == plugin, row.state == "previous")
            back = await uow.session.execute(
                before.values(state="active", reason="", changed_at=now()).returning(row.version)
            )
            found = back.first()
            return None if found is None else str(found.version)

    @retrying
    async def turn_off(self, plugin: str, *, state: str, reason: str, version: str | None = None) -> int:
        """Turn a plugin off, or revoke it, all its versions or one; how many of them were something else before."""
        row = ExtensionRow
        changing = update(row).where(row.plugin == plugin, row.state.not_in((state, "revoked")))
        if version is not None:
            changing = changing.where(row.version == version)
        async with self._db.unit_of_work() as uow:
            changed = await uow.session.execute(
                changing.values(state=state, reason=reason[:500], changed_at=now()).returning(row.version)
            )
            return len(changed.all())

    async def values(self, plugin: str) -> Mapping[bytes, bytes]:
        """What a plugin keeps."""
        wanted = select(ExtensionValueRow.key, ExtensionValueRow.value).where(ExtensionValueRow.plugin == plugin)
        async with self._db.reading() as session:
            return {row.key: row.value for row in await session.execute(wanted)}

    @retrying
    async def forget_values(self, plugin: str) -> None:
        """Delete what a plugin keeps."""
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(delete(ExtensionValueRow).where(ExtensionValueRow.plugin == plugin))

    async def calls(self, plugin: str, days: int) -> Sequence[tuple[str, date, int, int]]:
        """Version, day, calls and failures of the last days, from the newest on."""
        row = ExtensionCallsRow
        since = (now() - timedelta(days=days)).date()
        wanted = select(row.version, row.day, row.calls, row.failures).where(row.plugin == plugin, row.day > since)
        async with self._db.reading() as session:
            found = await session.execute(wanted.order_by(row.day.desc(), row.version))
            return [(version, day, calls, failures) for version, day, calls, failures in found]


def checked(installed: InstalledPlugin) -> Manifest:
    """The manifest of a plugin that may be loaded. Raises `PluginFailed` with why it may not."""
    try:
        manifest = manifest_of(installed.manifest)
    except MsgspecError as error:
        raise PluginFailed(f"its manifest cannot be read: {error}") from None
    package = package_digest(installed.manifest, installed.artifact)
    if package != installed.digest or (manifest.name, manifest.version) != (installed.plugin, installed.version):
        raise PluginFailed("it was modified since it was published")
    if not is_signed(installed.public_key, manifest, package, installed.signature):
        raise PluginFailed("it is not signed by its publisher")
    running = this_build().version
    if not fits(manifest.aitbc, running):
        raise PluginFailed(f"it fits AITBC {manifest.aitbc}, and this is {running}")
    if unknown := sorted(set(manifest.hooks) - HOOKS.keys()):
        raise PluginFailed(f"this version of AITBC has no hook {unknown[0]}")
    return manifest
