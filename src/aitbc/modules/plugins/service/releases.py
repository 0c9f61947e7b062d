"""Versions: handed in and signed, yanked by their publishers, decided, and revoked by the operator."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Struct
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.crypto.signing import digest
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.hooks.manifest import Manifest, is_signed, manifest_text, package_digest
from aitbc.kernel.hooks.rules.package import RuleFinding
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.plugins.api import VERSION_STATES, PluginNotFound
from aitbc.modules.plugins.events import PluginVersionDecided
from aitbc.modules.plugins.models.life import VERSION_MOVES, number_of
from aitbc.modules.plugins.models.tables import NamespaceRow, PluginRow, VersionRow
from aitbc.modules.plugins.service.namespaces import NamespaceNotFound, owned

WAITING_MAX = 20
"""Versions of one account that wait for the pipeline."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]\.[a-z][a-z0-9-]{0,38}[a-z0-9]").fullmatch
UNDESCRIBED: dict[str, object] = {
    "kind": "sandboxed",
    "summary": "",
    "description": "",
    "category": "other",
    "tags": [],
    "license": "",
}
"""Of a plugin of which nothing was published yet."""
WAITING = ("received", "validating", "scanning", "errored")


class PluginVersionNotFound(NotFound):
    """There is no such version, or it cannot be had any more."""

    code = "plugin_version_not_found"


class PluginNameTaken(Conflict):
    """There is a plugin of this name already."""

    code = "plugin_name_taken"


class PluginVersionExists(Conflict):
    """This version was published; a version never changes: publish the next one."""

    code = "plugin_version_exists"


class PluginSignatureWrong(Forbidden):
    """The signature is not that of the namespace's present key over this very package."""

    code = "plugin_signature_wrong"


class PluginVersionDecidedAlready(Conflict):
    """What became of this version does not allow that."""

    code = "plugin_version_decided"


class TooManyVersionsWaiting(TooMany):
    """Versions of this account wait to be looked at; publish more when they are decided."""

    code = "too_many_plugin_versions"


class PluginVersion(Struct, frozen=True, kw_only=True):
    """A version of a plugin, and what became of it."""

    id: str
    """The version's id. For example `pver_01k0000000000000000000000a`."""
    plugin: str
    """The plugin. For example `acme.night-price`."""
    version: str
    """Its number. For example `1.0.0`."""
    state: Annotated[str, one_of(VERSION_STATES)]
    """`received`, `validating`, `scanning`, then `passed`, `rejected`, `quarantined` or `errored`; later `yanked` or
    `revoked`. For example `passed`."""
    reason: str
    """Why it was yanked, revoked or decided by hand; may be empty. For example `A wrong price on Sundays.`."""
    findings: tuple[RuleFinding, ...]
    """What the rules found."""
    digest: str
    """The digest of manifest and module, which is signed. For example `sha256:9f86…`."""
    public_key: str
    """The key that signed it, url-safe base 64. For example `O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik`."""
    signature: str
    """The signature, url-safe base 64. For example
    `qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3Aw`."""
    manifest: Manifest
    """What it says of itself."""
    size_bytes: int
    """The size of its module, in bytes. For example `312`."""
    created_at: datetime
    """When it was handed in."""
    changed_at: datetime
    """When its state last changed."""


class PluginId(Struct, frozen=True):
    """A plugin, by its id: the stored answer of a registration."""

    id: str


class Releases:
    """Takes versions, and what is said about them."""

    def __init__(self, db: Database, extensions: Extensions) -> None:
        self._db = db
        self._extensions = extensions

    @property
    def poll_seconds(self) -> float:
        """After how long every process knows what was revoked."""
        return self._extensions.poll_seconds

    @retrying
    async def publish(
        self, who: Principal, manifest: Manifest, artifact: bytes, signature: str, once: IdempotencyKey
    ) -> PluginVersion:
        """Take a version that the owner of its namespace signed; the pipeline looks at it next.

        Raises `NamespaceNotFound`, `PluginSignatureWrong`, `PluginVersionExists`, `TooManyVersionsWaiting`.
        """
        text = manifest_text(manifest)
        package = package_digest(text, artifact)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PluginVersion)) is not None:
                return earlier
            space = await owned(uow, who, manifest.name.partition(".")[0], lock=True)
            if space.public_key is None or not is_signed(space.public_key, manifest, package, signature):
                raise PluginSignatureWrong
            await _require_room(uow, who.account)
            plugin = await _plugin_of(uow, space, manifest)
            if plugin.state == "revoked":
                raise PluginVersionDecidedAlready("This plugin was revoked by the operator.")
            number = number_of(manifest.version)
            there = select(VersionRow.id).where(VersionRow.plugin == plugin.id, VersionRow.number == number)
            if await uow.session.scalar(there) is not None:
                raise PluginVersionExists
            row = VersionRow(
                id=ids.new_id("pver"),
                plugin=plugin.id,
                version=manifest.version,
                number=number,
                account=who.account,
                digest=package,
                artifact_digest=digest(artifact),
                public_key=space.public_key,
                signature=signature,
                manifest=text,
                artifact=artifact,
                size=len(artifact),
                state="received",
                reason="",
                findings="[]",
                created_at=now(),
                changed_at=now(),
            )
            uow.add(row)
            return await uow.answer(once, version_view(row))

    @retrying
    async def register(self, who: Principal, name: str, once: IdempotencyKey) -> str:
        """Take a name before anything of it is published, in a namespace of the account's own; the plugin's id.

        Raises `PluginNameTaken`, and `Invalid` for what is no name.
        """
        space_name = f"u-{who.account[-12:]}"
        plugin = f"{space_name}.{name}"
        if not NAME(plugin):
            raise Invalid(
                "A name has two letters or digits at least.", fields=(FieldError("/name", "Expected a name"),)
            )
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PluginId)) is not None:
                return earlier.id
            making = insert(NamespaceRow).values(
                name=space_name, account=who.account, public_key=None, verified=False, created_at=now()
            )
            await uow.session.execute(making.on_conflict_do_nothing())
            space = await owned(uow, who, space_name, lock=True)
            if await uow.session.get(PluginRow, plugin) is not None:
                raise PluginNameTaken
            uow.add(plugin_row(space, plugin, UNDESCRIBED))
            return (await uow.answer(once, PluginId(id=plugin))).id

    async def one(self, who: Principal, version: str) -> PluginVersion:
        """A version of the caller's own, or one that passed. Raises `PluginVersionNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VersionRow, version, missing=PluginVersionNotFound)
            if not who.owns(row.account) and row.state not in ("passed", "yanked"):
                raise PluginVersionNotFound
            return version_view(row)

    async def page(
        self, who: Principal, *, plugin: str | None, state: str | None, after: str | None, limit: int
    ) -> Sequence[PluginVersion]:
        """Versions of the caller's own, for an operator everybody's, from the newest on."""
        wanted = select(VersionRow).order_by(VersionRow.id.desc()).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(VersionRow.account == who.account)
        if plugin is not None:
            wanted = wanted.where(VersionRow.plugin == plugin)
        if state is not None:
            wanted = wanted.where(VersionRow.state == state)
        if after is not None:
            wanted = wanted.where(VersionRow.id < after)
        async with self._db.reading() as session:
            return [version_view(row) for row in await session.scalars(wanted)]

    @retrying
    async def yank(self, who: Principal, version: str, reason: str) -> PluginVersion:
        """Take a version of the caller's own back: nobody can install it any more; where it is installed it stays."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VersionRow, version, lock=True, missing=PluginVersionNotFound)
            if row.account != who.account:
                raise PluginVersionNotFound
            if row.state != "yanked":
                await move(uow, row, "yanked", reason)
            return version_view(row)

    @retrying
    async def decide(self, who: Principal, version: str, *, passes: bool, reason: str) -> PluginVersion:
        """Let a version in quarantine pass, or reject it, as an operator."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VersionRow, version, lock=True, missing=PluginVersionNotFound)
            wanted = "passed" if passes else "rejected"
            if row.state != "quarantined" and row.state != wanted:
                raise PluginVersionDecidedAlready
            if row.state != wanted:
                await move(uow, row, wanted, reason)
                await uow.audit(who.account, who.key, f"plugins.{wanted}", row.id)
            return version_view(row)

    async def revoke(self, who: Principal, plugin: str, version: str | None, reason: str) -> int:
        """The kill switch: no process asks these versions any more within a minute; how many were something else.

        A module that was revoked is refused under any name.
        """
        await self._revoke(who, plugin, version, reason)
        return await self._extensions.turn_off(plugin, state="revoked", reason=reason, version=version)

    @retrying
    async def _revoke(self, who: Principal, plugin: str, version: str | None, reason: str) -> None:
        async with self._db.unit_of_work() as uow:
            found = await uow.find(PluginRow, plugin, lock=True, missing=PluginNotFound)
            wanted = select(VersionRow).where(VersionRow.plugin == plugin, VersionRow.state != "revoked")
            if version is not None:
                wanted = wanted.where(VersionRow.version == version)
            rows = (await uow.session.scalars(wanted.with_for_update().order_by(VersionRow.id))).all()
            if version is not None and not rows and await _by_number(uow, plugin, version) is None:
                raise PluginVersionNotFound
            for row in rows:
                await move(uow, row, "revoked", reason)
            if version is None:
                found.state = "revoked"
            await uow.audit(who.account, who.key, "plugins.revoke", plugin, version=version, reason=reason)


async def _by_number(uow: UnitOfWork, plugin: str, version: str) -> VersionRow | None:
    wanted = select(VersionRow).where(VersionRow.plugin == plugin, VersionRow.version == version)
    found: VersionRow | None = await uow.session.scalar(wanted)
    return found


async def move(uow: UnitOfWork, row: VersionRow, state: str, reason: str = "") -> None:
    """Move a locked version to a state, and keep its plugin's latest one true. Raises `PluginVersionDecidedAlready`."""
    if state not in VERSION_MOVES[row.state]:
        raise PluginVersionDecidedAlready
    row.state, row.reason, row.changed_at = state, reason, now()
    await uow.session.flush()
    if state in ("passed", "yanked", "revoked"):
        await _renew_latest(uow, row.plugin)
    if state in ("passed", "rejected", "quarantined", "yanked", "revoked"):
        uow.publish(PluginVersionDecided(account=row.account, plugin=row.plugin, version=row.version, state=state))


async def _renew_latest(uow: UnitOfWork, plugin: str) -> None:
    """Describe a plugin as its highest version that passed does."""
    wanted = select(VersionRow).where(VersionRow.plugin == plugin, VersionRow.state == "passed")
    newest = await uow.session.scalar(wanted.order_by(VersionRow.number.desc()).limit(1))
    changing = update(PluginRow).where(PluginRow.id == plugin)
    if newest is None:
        await uow.session.execute(changing.values(latest=None, latest_number=0))
        return
    manifest = msgspec.json.decode(newest.manifest, type=Manifest)
    values = {**described(manifest), "latest": newest.version, "latest_number": newest.number}
    await uow.session.execute(changing.values(**values, released_at=newest.changed_at))


def described(manifest: Manifest) -> dict[str, object]:
    """The columns of a plugin that its versions say."""
    return {
        "kind": manifest.kind,
        "summary": manifest.summary,
        "description": manifest.description,
        "category": manifest.category,
        "tags": list(manifest.tags),
        "license": manifest.license,
    }


async def _require_room(uow: UnitOfWork, account: str) -> None:
    waiting = select(func.count()).where(VersionRow.account == account, VersionRow.state.in_(WAITING))
    if (await uow.session.scalar(waiting) or 0) >= WAITING_MAX:
        raise TooManyVersionsWaiting


async def _plugin_of(uow: UnitOfWork, space: NamespaceRow, manifest: Manifest) -> PluginRow:
    """The plugin of a manifest in a locked namespace, made where it is the first of its name."""
    row = await uow.session.get(PluginRow, manifest.name)
    if row is None:
        row = plugin_row(space, manifest.name, described(manifest))
        uow.add(row)
        await uow.session.flush()
    elif row.account != space.account:
        raise NamespaceNotFound
    return row


def plugin_row(space: NamespaceRow, name: str, values: dict[str, object]) -> PluginRow:
    """A new plugin, of which nothing was released yet."""
    return PluginRow(
        id=name,
        namespace=space.name,
        account=space.account,
        latest=None,
        latest_number=0,
        price_units=0,
        trial_days=0,
        verified=space.verified,
        deprecated=False,
        state="listed",
        downloads=0,
        ratings=0,
        rating_sum=0,
        created_at=now(),
        released_at=None,
        **values,
    )


def version_view(row: VersionRow) -> PluginVersion:
    """The version, as the API shows it."""
    return PluginVersion(
        id=row.id,
        plugin=row.plugin,
        version=row.version,
        state=row.state,
        reason=row.reason,
        findings=msgspec.json.decode(row.findings, type=tuple[RuleFinding, ...]),
        digest=row.digest,
        public_key=row.public_key,
        signature=row.signature,
        manifest=msgspec.json.decode(row.manifest, type=Manifest),
        size_bytes=row.size,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
