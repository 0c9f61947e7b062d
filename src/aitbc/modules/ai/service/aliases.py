"""Aliases of models: a name that an account, or the operator for all, has for one exact model."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import func, select
from sqlalchemy.sql.elements import ColumnElement

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Forbidden, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.models.alias_tables import ModelAliasRow
from aitbc.modules.ai.models.views import ModelAlias
from aitbc.modules.ai.service.rows import lock_name

ALIASES_MAX = 100
LATE = timedelta(seconds=30)
"""How much later than its time a change may be committed: so far back each look for changes goes."""
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class AliasNotFound(NotFound):
    """There is no such alias, or it is another account's."""

    code = "model_alias_not_found"


class AliasForAll(Forbidden):
    """Only operators set and remove aliases for all."""

    code = "model_alias_for_all"


class TooManyAliases(TooMany):
    """An account has at most 100 aliases."""

    code = "too_many_model_aliases"


class SetModelAlias(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name for a model."""

    name: Name
    """The alias. For example `default`."""
    model: ModelName
    """The model that it stands for, as miners announce it. For example `llama-3-8b`."""
    for_all: bool = False
    """For operators: whether it is an alias for everybody; an account's own alias goes before it."""


class Aliases:
    """Sets, lists and removes aliases, and knows from memory what each stands for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._own: dict[tuple[str, str], str] = {}
        self._for_all: dict[str, str] = {}
        self._seen_until: datetime | None = None

    # From memory

    def named(self, account: str, model: str) -> str:
        """The model that a name stands for; a name that is no alias is a model's own."""
        own = self._own.get((account, model))
        return self._for_all.get(model, model) if own is None else own

    def of(self, account: str) -> Mapping[str, str]:
        """What this account may say instead of models' names."""
        own = {name: model for (owner, name), model in self._own.items() if owner == account}
        return {**self._for_all, **own}

    async def refresh(self) -> None:
        """Read what changed since the last time."""
        looked_at = now()
        changed = select(ModelAliasRow).order_by(ModelAliasRow.changed_at, ModelAliasRow.id)
        if self._seen_until is not None:
            if not await self._db.is_any("ai.model_aliases WHERE changed_at > $1", self._seen_until - LATE):
                self._seen_until = looked_at
                return
            changed = changed.where(ModelAliasRow.changed_at > self._seen_until - LATE)
        async with self._db.reading() as session:
            rows = (await session.scalars(changed)).all()
        for row in sorted(rows, key=lambda row: row.ended_at is None):  # what ended first: its name may be taken again
            self._take(row)
        self._seen_until = looked_at

    def _take(self, row: ModelAliasRow) -> None:
        if row.for_all and row.ended_at is None:
            self._for_all[row.name] = row.model
        elif row.for_all:
            self._for_all.pop(row.name, None)
        elif row.ended_at is None:
            self._own[row.account, row.name] = row.model
        else:
            self._own.pop((row.account, row.name), None)

    # In the database

    async def set(self, who: Principal, command: SetModelAlias) -> ModelAlias:
        """Have a name stand for a model from now on, in other processes from a second later on; again changes nothing.

        Jobs that were submitted under it before keep their model. Raises `AliasForAll`, `TooManyAliases`, `Invalid`.
        """
        if command.for_all and not who.is_admin:
            raise AliasForAll
        if command.name.startswith("auto:"):
            raise Invalid(fields=(FieldError("/name", "Names with auto: leave the choice to the platform"),))
        if command.name == command.model:
            raise Invalid(fields=(FieldError("/model", "It is the name itself"),))
        view = await self._set(who, command)
        await self.refresh()
        return view

    @retrying
    async def _set(self, who: Principal, command: SetModelAlias) -> ModelAlias:
        async with self._db.unit_of_work() as uow:
            await lock_name(uow, f"aliases {'all' if command.for_all else who.account}")
            live = _live(who.account, for_all=command.for_all)
            same = select(ModelAliasRow).where(*live, ModelAliasRow.name == command.name)
            row = (await uow.session.scalars(same.with_for_update())).first()
            if row is not None and row.model == command.model:
                return _view(row)
            if row is not None:
                row.ended_at = row.changed_at = now()
                await uow.session.flush()
            else:
                await _require_room(uow, live)
            row = ModelAliasRow(
                id=ids.new_id("mals"),
                account=who.account,
                name=command.name,
                model=command.model,
                for_all=command.for_all,
                created_at=now(),
                changed_at=now(),
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "model_alias.set", row.id)
            return _view(row)

    async def remove(self, who: Principal, alias: str) -> ModelAlias:
        """Have a name stand for nothing any more; again changes nothing. Raises `AliasNotFound`, `AliasForAll`."""
        view = await self._remove(who, alias)
        await self.refresh()
        return view

    @retrying
    async def _remove(self, who: Principal, alias: str) -> ModelAlias:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ModelAliasRow, alias, lock=True, missing=AliasNotFound)
            if row.for_all and not who.is_admin:
                raise AliasForAll
            if not who.owns(row.account):
                raise AliasNotFound
            if row.ended_at is None:
                row.ended_at = row.changed_at = now()
                await uow.audit(who.account, who.key, "model_alias.remove", row.id)
            return _view(row)

    async def page(self, who: Principal, *, limit: int, after: str | None) -> Sequence[ModelAlias]:
        """The caller's aliases and those for all, in the order in which they were set."""
        wanted = select(ModelAliasRow).where(ModelAliasRow.ended_at.is_(None))
        wanted = wanted.where((ModelAliasRow.account == who.account) | ModelAliasRow.for_all)
        if after is not None:
            wanted = wanted.where(ModelAliasRow.id > after)
        async with self._db.reading() as session:
            return [_view(row) for row in await session.scalars(wanted.order_by(ModelAliasRow.id).limit(limit))]


def _live(account: str, *, for_all: bool) -> tuple[ColumnElement[bool], ...]:
    mine = (ModelAliasRow.for_all,) if for_all else (ModelAliasRow.account == account, ~ModelAliasRow.for_all)
    return (ModelAliasRow.ended_at.is_(None), *mine)


async def _require_room(uow: UnitOfWork, live: tuple[ColumnElement[bool], ...]) -> None:
    count = select(func.count()).select_from(ModelAliasRow).where(*live)
    if (await uow.session.execute(count)).scalar_one() >= ALIASES_MAX:
        raise TooManyAliases


def _view(row: ModelAliasRow) -> ModelAlias:
    return ModelAlias(**{name: getattr(row, name) for name in ModelAlias.__struct_fields__})
